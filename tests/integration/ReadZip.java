import java.io.InputStream;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;

/** Reads every member of a ZIP file, as REGARDS' own clients would; prints how many there are. */
class ReadZip {
    public static void main(String[] arguments) throws Exception {
        byte[] buffer = new byte[1 << 20];
        int members = 0;
        try (ZipFile zip = new ZipFile(arguments[0])) {
            for (ZipEntry entry : java.util.Collections.list(zip.entries())) {
                CRC32 crc = new CRC32();
                long size = 0;
                try (InputStream stream = zip.getInputStream(entry)) {
                    for (int read; (read = stream.read(buffer)) > 0; size += read) {
                        crc.update(buffer, 0, read);
                    }
                }
                if (size != entry.getSize() || crc.getValue() != entry.getCrc()) {
                    throw new IllegalStateException(entry.getName() + " is spoilt");
                }
                members++;
            }
        }
        System.out.println(members);
    }
}
