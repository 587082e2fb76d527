"""An OPC UA server by asyncua whose 100 variables, V1 to V100 of namespace 2,
change five times a second: opcua_load.py PORT."""
import asyncio
import sys

from asyncua import Server, ua


async def main(port):
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    ns = await server.register_namespace("urn:wayside:load")
    nodes = [await server.nodes.objects.add_variable(ua.NodeId(f"V{i}", ns), f"V{i}", 0.0) for i in range(1, 101)]
    async with server:
        n = 0.0
        while True:
            n += 1
            for node in nodes:
                await node.write_value(n)
            await asyncio.sleep(0.2)


asyncio.run(main(int(sys.argv[1])))
