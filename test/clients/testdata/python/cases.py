"""Reports cases by the lines that Main.java describes."""
import sys
import time
import traceback

TIMEOUT = 40


def check(ok, what):
    if not ok:
        raise AssertionError(what)


def equal(got, want, what):
    check(got == want, f"{what}: got {got!r}, want {want!r}")


def expect(error, call):
    """Fails unless the call raises this error."""
    try:
        got = call()
    except error as e:
        return e
    raise AssertionError(f"got {got!r}, want {error.__name__}")


def eventually(what, holds):
    """Waits for a call that polls to answer something true."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        got = holds()
        if got:
            return got
    raise AssertionError(f"in time this never was: {what}")


def ask(what):
    """Has the test do something to the broker: "restart" or "kill"."""
    print(f"@{what}", flush=True)
    equal(sys.stdin.readline().strip(), "done", what)


def main(cases):
    """cases: name to function of a bootstrap address and a name of its own."""
    bootstrap, wanted = sys.argv[1], sys.argv[2:]
    for name, case in cases.items():
        if wanted and not any(part in name for part in wanted):
            continue
        print(f"@begin {name}", flush=True)
        try:
            case(bootstrap, name.replace("/", "-"))
            print(f"@pass {name}", flush=True)
        except Exception:
            traceback.print_exc(file=sys.stdout)
            print(f"@fail {name}", flush=True)
