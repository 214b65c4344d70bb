// What each code means to the user of a delivery, and what they do: it is fetched when a card needs it.

// made by `make docs`: the catalogue of errors, in words for users
export const STANZAS = {
 "INVALID_REQUEST": {
  "user": "Something in your request is not as it must be.",
  "userDoes": "Correct what is named below, and ask again."
 },
 "EMPTY_ORDER": {
  "user": "There is nothing in the data archive that fits what you asked for.",
  "userDoes": "Look at your queries and choices of files, and ask again for something that is there."
 },
 "ORDER_DENIED": {
  "user": "The data archive did not take your order.",
  "userDoes": "Change what it objects to, named below, and ask again."
 },
 "ORDER_FAILED": {
  "user": "The data archive could not make all of your files available.",
  "userDoes": "Ask again later, or ask for what there is."
 },
 "ORDER_INCOMPLETE": {
  "user": "The data archive gave fewer files than it had announced.",
  "userDoes": "Ask again, or ask for what there is."
 },
 "ORDER_IN_DOUBT": {
  "user": "Two of your requests had the same id, and could not be told apart.",
  "userDoes": "Ask again, with an empty id."
 },
 "ORDER_UNNAMED": {
  "user": "The data archive prepared your order, and never told its number.",
  "userDoes": "Give your data centre the id below; ask again once that is mended."
 },
 "NO_PLACE": {
  "user": "The data archive prepares only so much for you at a time, and that is full.",
  "userDoes": "Fetch or cancel what you have ordered there, then ask again."
 },
 "ORDER_NOT_TOLD": {
  "user": "The data archive does not tell how large your order will be.",
  "userDoes": "Nothing: it goes on."
 },
 "ORDER_TOO_LARGE": {
  "user": "You asked for more files than one delivery may have.",
  "userDoes": "Ask for less at once, in several requests."
 },
 "TOO_MANY_SUBORDERS": {
  "user": "You asked for more than one delivery may have.",
  "userDoes": "Ask for less at once, in several requests."
 },
 "DAY_QUOTA": {
  "user": "It is more than you may have in a day.",
  "userDoes": "Ask for less, or ask again tomorrow."
 },
 "QUOTA_AWAITED": {
  "user": "You have as much as you may have at the moment; this one waits its turn.",
  "userDoes": "Wait: it goes on by itself."
 },
 "SUBORDER_AWAITED": {
  "user": "A part is packed; the data archive is preparing the next one.",
  "userDoes": "Wait: it goes on by itself."
 },
 "NOTHING_AVAILABLE": {
  "user": "None of the files that you asked for can be had.",
  "userDoes": "Ask for other files, or give your data centre the id below."
 },
 "SOURCE_AWAY": {
  "user": "The data archive does not answer at the moment.",
  "userDoes": "Wait: it is tried again by itself."
 },
 "SOURCE_CREDENTIALS": {
  "user": "The data archive does not let this service in at the moment.",
  "userDoes": "Wait: it goes on once your data centre has mended that."
 },
 "SOURCE_NOT_READY": {
  "user": "The data archive is still preparing your files.",
  "userDoes": "Wait: it goes on by itself."
 },
 "SOURCE_REFUSED": {
  "user": "The data archive does not give out a file: you may not read it, or it is not there.",
  "userDoes": "Ask for what there is, or ask your data centre for the right to read it."
 },
 "SOURCE_GONE": {
  "user": "A file was prepared, and was cleared away before it could be packed.",
  "userDoes": "Ask again: it is prepared once more. Ask for less at once if that comes again."
 },
 "WRONG_FILE": {
  "user": "A file came with another content than the data archive's checksum says.",
  "userDoes": "Give your data centre the id below; ask again once the file is mended."
 },
 "WRONG_OBJECT": {
  "user": "What was stored is not what was sent, so it was not handed over.",
  "userDoes": "Ask again; if it stays, give your data centre the id below."
 },
 "TARGET_AWAY": {
  "user": "The place that it goes to does not answer at the moment.",
  "userDoes": "Wait: it is tried again by itself."
 },
 "TARGET_REFUSED": {
  "user": "The place that it goes to does not take files.",
  "userDoes": "Give your data centre the id below; ask again once that is mended."
 },
 "TARGET_FORBIDDEN": {
  "user": "Nothing may be delivered to the place that you chose.",
  "userDoes": "Ask again with another target."
 },
 "PLACE_BUSY": {
  "user": "Another delivery is just being put at the same place.",
  "userDoes": "Wait: it goes on by itself."
 },
 "FOREIGN_OBJECT": {
  "user": "Another user's delivery is where yours would go, and it is never replaced.",
  "userDoes": "Ask again, with an empty id or another name."
 },
 "CONTENT_CHANGED": {
  "user": "What was delivered has been replaced by something else.",
  "userDoes": "Ask again if you need it; give your data centre the id below."
 },
 "UPLOAD_LOST": {
  "user": "What was packed so far was lost.",
  "userDoes": "Nothing: it begins again by itself."
 },
 "SIZE_NOT_TOLD": {
  "user": "The size of a file is not known in advance, which this format needs.",
  "userDoes": "Ask again with the format zip or files."
 },
 "ARCHIVE_TOO_LARGE": {
  "user": "What you asked for is larger than its place takes.",
  "userDoes": "Ask for less at once, or with the format files."
 },
 "SECRET_UNREADABLE": {
  "user": "The service can't sign in at the place that it goes to.",
  "userDoes": "Wait: it goes on once your data centre has mended that."
 },
 "PAUSED": {
  "user": "Your data centre has paused deliveries.",
  "userDoes": "Wait: it goes on when the pause is over."
 },
 "WORKER_STOPPED": {
  "user": "It changes to another machine.",
  "userDoes": "Nothing: it goes on by itself."
 },
 "LEASE_LOST": {
  "user": "It has changed to another machine.",
  "userDoes": "Nothing: it goes on by itself."
 },
 "COMPLETION_OPEN": {
  "user": "It was to end while it was being finished.",
  "userDoes": "Wait: you see in a moment whether it is there."
 },
 "EXPIRED": {
  "user": "It could not be done in its time.",
  "userDoes": "Ask again, for less at once or with a later deadline; if it was far from done, give your data centre the id below."
 },
 "CANCELLED": {
  "user": "It was cancelled.",
  "userDoes": "Ask again if you need it all the same."
 },
 "FAULT": {
  "user": "Something went wrong that this service does not know.",
  "userDoes": "Give your data centre the id below, and ask again."
 }
};
// end of the catalogue of errors, in words for users
