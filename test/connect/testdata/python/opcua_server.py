"""An OPC UA server by asyncua: opcua_server.py PORT DIR.

DIR holds server.pem and server.key. Variable Temp counts up by one tenth
every 50 ms; Setpoint and Label may be written; Multiply is a method. With a
line "stop" on stdin it ends as a server that is shut down does."""
import asyncio
import sys
from pathlib import Path

from asyncua import Server, ua, uamethod
from asyncua.crypto.permission_rules import User, UserRole


class Users:
    def get_user(self, iserver, username=None, password=None, certificate=None):
        if username is None or (username, password) == ("wayside", "p4ss"):
            return User(role=UserRole.Admin)
        return None


@uamethod
def multiply(parent, x, y):
    return x * y


async def main(port, folder):
    server = Server(user_manager=Users())
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    await server.set_application_uri("urn:wayside:test:server")
    server.set_security_policy([
        ua.SecurityPolicyType.NoSecurity,
        ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
        ua.SecurityPolicyType.Basic256Sha256_Sign,
    ])
    await server.load_certificate(str(folder / "server.pem"), "pem")
    await server.load_private_key(str(folder / "server.key"), format="pem")
    ns = await server.register_namespace("urn:wayside:test")
    machine = await server.nodes.objects.add_object(ua.NodeId("Machine", ns), "Machine")
    temp = await machine.add_variable(ua.NodeId("Machine.Temp", ns), "Temp", 20.0, ua.VariantType.Float)
    setpoint = await machine.add_variable(ua.NodeId("Machine.Setpoint", ns), "Setpoint", 5, ua.VariantType.Int16)
    label = await machine.add_variable(ua.NodeId("Machine.Label", ns), "Label", "idle")
    await machine.add_variable(ua.NodeId("Machine.List", ns), "List", [1, 2, 3], ua.VariantType.UInt32)
    bad = await machine.add_variable(ua.NodeId("Machine.Bad", ns), "Bad", 1.5)
    await setpoint.set_writable()
    await label.set_writable()
    await machine.add_method(ua.NodeId("Machine.Multiply", ns), "Multiply", multiply,
                             [ua.VariantType.Int64, ua.VariantType.Int64], [ua.VariantType.Int64])
    loop = asyncio.get_running_loop()
    stop = loop.run_in_executor(None, sys.stdin.readline)
    async with server:
        await server.write_attribute_value(bad.nodeid, ua.DataValue(
            ua.Variant(1.5), StatusCode=ua.StatusCode(ua.StatusCodes.BadSensorFailure)))
        print("ready", flush=True)
        n = 200
        while not stop.done():
            await asyncio.sleep(0.05)
            n += 1
            await temp.write_value(ua.Variant(n / 10, ua.VariantType.Float))


asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
