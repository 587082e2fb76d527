"""kafka-python, which shares no code with the other clients."""
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from cases import ask, equal, eventually, main


def topic(b, name, partitions=1):
    a = KafkaAdminClient(bootstrap_servers=b)
    a.create_topics([NewTopic(name, partitions, 1)])
    a.close()


def produce(b, name, values, **config):
    p = KafkaProducer(bootstrap_servers=b, **config)
    for f in [p.send(name, value=v.encode(), key=v.encode()) for v in values]:
        f.get(30)
    p.close()


def consumer(b, **config):
    return KafkaConsumer(bootstrap_servers=b, auto_offset_reset="earliest", enable_auto_commit=False, **config)


def read(c, n):
    got = []

    def poll():
        for records in c.poll(200).values():
            got.extend(r.value.decode() for r in records)
        return len(got) >= n
    eventually(f"{n} records", poll)
    return got


def span(a, b):
    return [str(i) for i in range(a, b)]


def roundtrip(codec):
    def case(b, name):
        topic(b, name)
        produce(b, name, span(0, 200), compression_type=codec, acks="all")
        c = consumer(b)
        c.assign([TopicPartition(name, 0)])
        equal(read(c, 200), span(0, 200), "values")
        c.close()
    return case


def group(b, name):
    topic(b, name, 4)
    produce(b, name, span(0, 100))
    c = consumer(b, group_id=name)
    c.subscribe([name])
    equal(sorted(read(c, 100), key=int), span(0, 100), "values")
    c.commit()
    c.close()
    ask("kill")
    produce(b, name, span(100, 150))
    c = consumer(b, group_id=name)
    c.subscribe([name])
    equal(sorted(read(c, 50), key=int), span(100, 150), "values after the commit")
    c.close()


def transactions(b, name):
    topic(b, name)
    p = KafkaProducer(bootstrap_servers=b, transactional_id=name)
    p.init_transactions()
    for i, end in enumerate([p.commit_transaction, p.abort_transaction, p.commit_transaction]):
        p.begin_transaction()
        for v in span(10 * i, 10 * i + 10):
            p.send(name, value=v.encode())
        p.flush()
        end()
    p.close()
    c = consumer(b, isolation_level="read_committed")
    c.assign([TopicPartition(name, 0)])
    equal(read(c, 20), span(0, 10) + span(20, 30), "committed")
    c.close()


def offsets(b, name):
    topic(b, name)
    produce(b, name, span(0, 10))
    c = consumer(b)
    tp = TopicPartition(name, 0)
    equal((c.beginning_offsets([tp])[tp], c.end_offsets([tp])[tp]), (0, 10), "offsets")
    equal(c.offsets_for_times({tp: 0})[tp].offset, 0, "offset for the epoch")
    c.assign([tp])
    c.seek(tp, 8)
    equal(read(c, 2), span(8, 10), "from 8")
    c.close()


CASES = {f"compression-{c}": roundtrip(None if c == "none" else c) for c in ("none", "gzip")}
CASES.update({"group": group, "transactions": transactions, "offsets": offsets})

if __name__ == "__main__":
    main(CASES)
