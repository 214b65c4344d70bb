"""Files of an SFTP server as objects."""
