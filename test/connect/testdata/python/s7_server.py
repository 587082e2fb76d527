"""Snap7's S7 server: s7_server.py PORT.

DB1 has a BOOL, a STRING and a DINT, DB10 a REAL that counts up by a half ten
times a second; there are markers, inputs and outputs."""
import ctypes
import struct
import sys
import threading
import time

import snap7
from snap7.type import SrvArea

server = snap7.server.Server(log=False)
areas = {}
for name, area, number, size in (("DB1", SrvArea.DB, 1, 64), ("DB10", SrvArea.DB, 10, 300), ("M", SrvArea.MK, 0, 16),
                                 ("I", SrvArea.PE, 0, 128), ("Q", SrvArea.PA, 0, 128)):
    areas[name] = (ctypes.c_uint8 * size)()
    server.register_area(area, number, areas[name])
areas["DB1"][0] = 8
areas["DB1"][10:17] = b"\x14\x05Press"
areas["DB1"][40:44] = struct.pack(">i", -123456)
areas["M"][0] = 2
areas["I"][64:66] = struct.pack(">h", -42)


def count():
    n = 0.0
    while True:
        areas["DB10"][4:8] = struct.pack(">f", n)
        n += 0.5
        time.sleep(0.1)


threading.Thread(target=count, daemon=True).start()
server.start(tcp_port=int(sys.argv[1]))
print("ready", flush=True)
threading.Event().wait()
