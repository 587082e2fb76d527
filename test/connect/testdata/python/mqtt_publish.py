"""Publishes messages in a session that is kept, eight at a time, and prints
"acked PAYLOAD" when the flow of one is complete; reconnects until all are."""
import sys
import threading
import paho.mqtt.client as mqtt

host, port, name, topic, qos, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6])
lock, texts, done = threading.Lock(), {}, set()
room = threading.Semaphore(8)


def complete(client, userdata, mid, reason, properties):
    with lock:
        done.add(mid)
        tell()


def tell():
    for mid in [m for m in done if m in texts]:
        print("acked", texts.pop(mid), flush=True)
        done.discard(mid)
        room.release()


c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
c.on_publish = complete
c.reconnect_delay_set(1, 1)
c.connect(host, port, keepalive=30)
c.loop_start()
for n in range(count):
    room.acquire()
    text = "%s-%d" % (name, n)
    info = c.publish(topic, text, qos=qos)
    with lock:
        texts[info.mid] = text
        tell()
for _ in range(8):
    room.acquire()
c.disconnect()
