"""The `partedvae` command."""

import signal
import sys

if sys.argv[1:2] == ["serve"]:
    # Before anything else is imported, because these signals end a process by default: a server reloads its models on
    # SIGHUP and ignores the others, which tools that rotate logs send. SIGINT would leave a traceback of the imports.
    for _name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):  # Windows has none of them.
        if hasattr(signal, _name):
            signal.signal(getattr(signal, _name), signal.SIG_IGN)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
