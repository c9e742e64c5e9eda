"""The drop directory: where local programs leave mail, whether a server runs or not.

Purpose   `sendmail` writes a message into a file and is done when it is durable; the server picks
          it up, exactly once. One file, however many recipients: it is there for all or for none.
In        An envelope and a content of a local user (the command); files of anybody (the server).
Out       Durable files; letters ready for the front door of the spool.
Holds     <directory>/new/         mode 3733: anybody may put a file in, nobody sees the others'
          <directory>/claimed/     mode 0700: files that the server has taken, named by queue id;
                                   beside one that makes several messages, its plan
          <directory>/quarantine/  mode 0700: what was refused, for a person to look at
          <directory>/facts        what the command has to know and may not read elsewhere
          <directory>/wake         a FIFO; an octet in it says that there is mail
          <directory>/full         exists while more files wait than there may
Never     Believes what a file says of its owner (that is the owner of the file), follows a link,
          waits for a file that is none, reads more than a limit, has a file name in a log as it is.
Fails     The command: `OSError`, and nothing is left behind. The server: a file that is not sound
          goes to quarantine with one line in the log; an error of the disk is tried again.
Why       A file is taken up once, whatever crashes when. The steps, in this order, each durable
          before the next begins:
          1. rename new/X to claimed/Q, Q being a queue id that no message ever had; sync both
             directories;
          2. the spool accepts the message under the id Q; the scheduler is told to start nothing
             of it;
          3. unlink claimed/Q; sync the directory;
          4. the scheduler has the message.
          So a claim Q exists whenever something of message Q may have been accepted, and nothing
          of it was attempted. A start looks at each claim Q before anything is delivered: if the
          spool has Q live, step 2 was done, and what is left is step 3; if it has not, then Q was
          never accepted (it can not have become final without an attempt), and the file is
          claimed again under a new id. The queue of final messages, which is forgotten, is never
          asked. A claim that makes several messages (more recipients than one may have, or VERP)
          has a plan, durable before step 2, with a new id for each message of the next portion;
          its own id is none of them. Step 3 of a portion that is not the last one replaces the
          plan by the one for the next, in which those that were accepted are not named any more;
          of the last one, the claim goes and then the plan. A start asks for the ids of plans as
          it does for those of claims, and writes those that are live out of them.
          Nothing is lost, because the file goes only when the spool has the messages; nothing is
          doubled, because attempts begin only when nothing of the directory would make it anew.
          One exception is harmless: what an operator deletes between 2 and 3, by hand, after a
          crash, comes back.
          A file is synced, renamed and its directory synced before the command says 0. Users may
          not open new/, so for them the last step is a second sync of the file: the file systems
          of Linux make the name durable with it, as its rename is in the same journal.
          The set-group-id bit of new/ gives each file the server's group, so that mode 0640 shows
          it to the server and to no other user; names are 128 random bits besides.
"""

from .form import FormError, Submission
from .place import Facts, Place
from .writer import DropFile

__all__ = ["DropFile", "Facts", "FormError", "Place", "Submission"]
