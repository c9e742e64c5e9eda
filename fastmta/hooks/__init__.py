"""aiosmtpd handlers plugged into our sessions, unchanged.

Purpose   Any handler class of aiosmtpd 1.4.6 decides about commands, contents and logins here.
In        A handler's name; the questions of each session (`SessionHook`).
Out       The session's reply, the handler's, or 451; changed envelopes and contents; log lines.
Holds     One handler object per worker and the threads it runs on; per session the `Session`,
          `Envelope` and `server` objects that hooks are given.
Never     Runs foreign code on the worker's loop; waits for it there; lets an exception through.
Fails     A handler that cannot be made is a ValueError at start. A hook that raises, returns what
          is no reply or takes too long is answered 451 and reported in one line; the next
          command goes on.
Why       Hooks are often slow and sometimes stuck, also inside `async def`, so they have threads
          of their own. Coroutines share one loop there, because handlers keep things that belong
          to a loop. When that thread stops answering, calls that have not begun move to another
          one: after 0.05 s, or after 1 s if the handler has been seen waiting for its loop.
          Functions (`def`) and the blocking handlers of aiosmtpd itself go to a pool. So code of
          a handler may run on several threads at once; `threads = 1` forbids that, and then
          one slow hook does hold up the others. A call that hangs is cancelled after its time; a
          thread that hangs for good is lost, of at most `threads` that there are. No more of them
          than that can hang before hooks answer 451 until one comes back.
          A handler sees a content without our Received field; ours goes in front again, and what
          it made of line ends is put right, before it is stored.
          Differences to aiosmtpd: an error answers 451, not 500; None is an error of every hook
          that has to return a reply; handle_STARTTLS is asked with the first command under TLS.
"""

from .aiosmtpd import AiosmtpdHooks, HookOptions

__all__ = ["AiosmtpdHooks", "HookOptions"]
