"""The commands of Postfix that scripts, cron jobs and operators call, with its words and codes.

Purpose   `sendmail mailq newaliases postqueue postsuper postcat qshape`, as Postfix 3.7 has them.
In        Arguments, standard input, the environment; answers of a running server, or its spool.
Out       Text in Postfix's columns, its messages on standard error, its exit codes.
Holds     Nothing.
Never     click, asyncio, LMDB or the configuration's schema before they are needed: a command that
          a script calls a thousand times starts in a few hundredths of a second. Decides nothing
          about mail: it asks the server, or what the server would have used.
Fails     `NAME: fatal: ...` and the code that Postfix ends with; nothing is half done without a
          word about it.
Why       Scripts parse what these print. So the shapes are Postfix's, recorded from it, and what
          has no counterpart here is said in words rather than left out.
"""
