"""A Modbus server by pymodbus: modbus_server.py PORT tcp|rtu.

Units 1 and 2 have holding registers 0 to 199, but for 50, the same as input
registers, and 100 coils. Register 100 of unit 1 counts up ten times a second.
With rtu its frames are those of a serial line."""
import asyncio
import struct
import sys

from pymodbus.datastore import ModbusServerContext, ModbusSlaveContext, ModbusSparseDataBlock
from pymodbus.server import StartAsyncTcpServer
from pymodbus.transaction import ModbusRtuFramer, ModbusSocketFramer


def unit(n):
    registers = {i: i for i in range(200) if i != 50}
    registers[0] = n
    registers[100] = 0
    high, low = struct.unpack(">HH", struct.pack(">f", 123456.0))
    registers[10], registers[11] = low, high  # CDAB
    registers[20], registers[21] = struct.unpack(">HH", b"Pres")
    return ModbusSlaveContext(
        hr=ModbusSparseDataBlock(dict(registers)), ir=ModbusSparseDataBlock(dict(registers)),
        co=ModbusSparseDataBlock({i: i % 3 == 0 for i in range(100)}),
        di=ModbusSparseDataBlock({i: i % 2 == 0 for i in range(100)}), zero_mode=True)


async def count(device):
    n = 0
    while True:
        n = (n + 1) % 30000
        device.setValues(3, 100, [n])
        await asyncio.sleep(0.1)


async def main(port, kind):
    units = {1: unit(1), 2: unit(2)}
    context = ModbusServerContext(slaves=units, single=False)
    asyncio.get_running_loop().create_task(count(units[1]))
    framer = ModbusRtuFramer if kind == "rtu" else ModbusSocketFramer
    await StartAsyncTcpServer(context, address=("127.0.0.1", port), framer=framer)


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
