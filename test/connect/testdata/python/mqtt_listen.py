"""Subscribes with a session that is kept and prints each message once it is
complete (QoS 2: at PUBREL), one "topic payload" a line; reconnects for ever."""
import sys
import paho.mqtt.client as mqtt

host, port, topic, version = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]


def connected(client, userdata, flags, reason, properties):
    if not flags.session_present:
        client.subscribe(topic, qos=2)
    else:
        print("resumed", flush=True)


def subscribed(client, userdata, mid, reasons, properties):
    print("subscribed", flush=True)


def message(client, userdata, m):
    print("message", m.topic, m.payload.decode(), m.qos, flush=True)


if version == "5":
    from paho.mqtt.properties import Properties
    from paho.mqtt.packettypes import PacketTypes
    c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="listener", protocol=mqtt.MQTTv5)
    p = Properties(PacketTypes.CONNECT)
    p.SessionExpiryInterval = 3600
    args = {"clean_start": False, "properties": p}
else:
    c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
    args = {}
c.on_connect, c.on_subscribe, c.on_message = connected, subscribed, message
c.reconnect_delay_set(1, 1)
c.connect(host, port, keepalive=30, **args)
c.loop_forever(retry_first_connection=True)
