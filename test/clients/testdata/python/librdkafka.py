"""librdkafka's newest release through its Python binding."""
import sys

from confluent_kafka import (Consumer, ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, Producer,
                             TopicCollection, TopicPartition, libversion, OFFSET_BEGINNING)
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
                                   OffsetSpec, ResourceType, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion)

from cases import ask, check, equal, eventually, expect, main


def admin(b):
    return AdminClient({"bootstrap.servers": b})


def topic(b, name, partitions=1, **config):
    config = {k.replace("_", "."): v for k, v in config.items()}
    a = admin(b)
    a.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(30)
    return name


def produce(b, name, values, **config):
    errors = []
    p = Producer({"bootstrap.servers": b, "linger.ms": 5, **{k.replace("_", "."): v for k, v in config.items()}})
    for v in values:
        p.produce(name, value=v, key=v, on_delivery=lambda err, _: err and errors.append(err))
        p.poll(0)
    equal(p.flush(60), 0, "records not acknowledged")
    equal(errors, [], "errors")


def consumer(b, group, **config):
    return Consumer({"bootstrap.servers": b, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                     **{k.replace("_", "."): v for k, v in config.items()}})


def read(c, n):
    """n records' values."""
    got = []

    def poll():
        for m in c.consume(n - len(got), 0.2):
            check(m.error() is None, m.error())
            got.append(m.value().decode())
        return len(got) >= n
    eventually(f"{n} records", poll)
    return got


def read_all(b, name, n, isolation="read_committed"):
    """The first n records of partition 0, then whatever comes with them up to the end."""
    c = consumer(b, name + "-reader", isolation_level=isolation, enable_partition_eof=True)
    c.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
    got = []

    def poll():
        m = c.poll(0.2)
        if m is None:
            return False
        if m.error():
            equal(m.error().code(), KafkaError._PARTITION_EOF, "error")
            return len(got) >= n
        got.append(m.value().decode())
        return False
    eventually(f"{n} records and the end", poll)
    c.close()
    return got


def span(a, b):
    return [str(i) for i in range(a, b)]


def roundtrip(codec):
    def case(b, name):
        topic(b, name)
        values = [f"{i} " + "compress me " * 200 for i in range(100)]
        produce(b, name, values, compression_type=codec)
        c = consumer(b, name)
        c.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
        equal(read(c, 100), values, "values")
        c.close()
    return case


def idempotent(b, name):
    topic(b, name)
    produced = []
    p = Producer({"bootstrap.servers": b, "enable.idempotence": True, "reconnect.backoff.max.ms": 200})
    for i in range(3000):
        p.produce(name, value=str(i), on_delivery=lambda err, m: produced.append(err or m.offset()))
        p.poll(0)
        if i in (1000, 2000):
            ask("kill")
    equal(p.flush(60), 0, "records not acknowledged")
    equal(produced, list(range(3000)), "offsets")
    equal(read_all(b, name, 3000), span(0, 3000), "values")


def transactional(b, tid, **config):
    p = Producer({"bootstrap.servers": b, "transactional.id": tid, **{k.replace("_", "."): v for k, v in config.items()}})
    p.init_transactions(30)
    return p


def send(p, name, a, b):
    for i in range(a, b):
        p.produce(name, value=str(i))
    p.flush(30)


def transactions(b, name):
    topic(b, name)
    p = transactional(b, name)
    for i, end in enumerate([p.commit_transaction, p.abort_transaction, p.commit_transaction]):
        p.begin_transaction()
        send(p, name, 10 * i, 10 * i + 10)
        end(30)
    equal(read_all(b, name, 20), span(0, 10) + span(20, 30), "committed")
    equal(read_all(b, name, 30, "read_uncommitted"), span(0, 30), "uncommitted")


def fencing(b, name):
    topic(b, name)
    zombie = transactional(b, name)
    zombie.begin_transaction()
    send(zombie, name, 0, 10)
    young = transactional(b, name)
    young.begin_transaction()
    send(young, name, 10, 20)
    young.commit_transaction(30)
    e = expect(KafkaException, lambda: zombie.commit_transaction(30)).args[0]
    check(e.fatal() or e.code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH), f"the zombie is told {e}")
    equal(read_all(b, name, 10), span(10, 20), "committed")


def transaction_offsets(b, name):
    topic(b, name)
    out = topic(b, name + "-out")
    produce(b, name, span(0, 20))
    c = consumer(b, name, isolation_level="read_committed")
    c.subscribe([name])
    equal(read(c, 20), span(0, 20), "values")
    p = transactional(b, name)
    at = [TopicPartition(name, 0, 12)]
    for end, want in ((p.abort_transaction, -1001), (p.commit_transaction, 12)):
        p.begin_transaction()
        send(p, out, 0, 12)
        p.send_offsets_to_transaction(at, c.consumer_group_metadata(), 30)
        end(30)
        equal(c.committed([TopicPartition(name, 0)], 30)[0].offset, want, "committed offset")
    c.close()


PROTOCOLS = {
    "classic-range": dict(group_protocol="classic", partition_assignment_strategy="range", session_timeout_ms=6000, heartbeat_interval_ms=200),
    "classic-cooperative": dict(group_protocol="classic", partition_assignment_strategy="cooperative-sticky", session_timeout_ms=6000, heartbeat_interval_ms=200),
    "consumer": dict(group_protocol="consumer"),
}


def group(config):
    def case(b, name):
        topic(b, name, 4)
        members = [consumer(b, name, **config) for _ in range(2)]
        seen = []

        def poll():
            for c in members:
                m = c.poll(0.05)
                if m is not None and not m.error():
                    seen.append(m.value().decode())
            return True
        for c in members:
            c.subscribe([name])
        eventually("each member has two", lambda: poll() and [len(c.assignment()) for c in members] == [2, 2])
        produce(b, name, span(0, 200))
        eventually("they read all", lambda: poll() and len(seen) >= 200)
        equal(sorted(seen, key=int), span(0, 200), "values")
        for c in members:
            c.commit(asynchronous=False)
        members.pop().close()
        eventually("the other has all", lambda: poll() and len(members[0].assignment()) == 4)
        ask("kill")
        produce(b, name, span(200, 300))
        eventually("it reads the rest", lambda: poll() and len(set(seen)) == 300)
        members[0].close()
    return case


def static(config):
    def case(b, name):
        topic(b, name, 2)
        a, z = (consumer(b, name, group_instance_id=i, **config) for i in "az")
        for c in (a, z):
            c.subscribe([name])
        eventually("each has one", lambda: [c.poll(0.05) for c in (a, z)] and [len(c.assignment()) for c in (a, z)] == [1, 1])
        had = z.assignment()
        z.close()
        z = consumer(b, name, group_instance_id="z", **config)
        z.subscribe([name])
        eventually("it has its partition again", lambda: [c.poll(0.05) for c in (a, z)] and z.assignment() == had)
        a.close()
        z.close()
    return case


def offsets(b, name):
    topic(b, name)
    produce(b, name, span(0, 10))
    c = consumer(b, name)
    tp = TopicPartition(name, 0)
    equal(c.get_watermark_offsets(tp, 30), (0, 10), "watermarks")
    equal(c.offsets_for_times([TopicPartition(name, 0, 0)], 30)[0].offset, 0, "offset for the epoch")
    c.commit(offsets=[TopicPartition(name, 0, 4)], asynchronous=False)
    equal(c.committed([tp], 30)[0].offset, 4, "committed")
    c.assign([TopicPartition(name, 0, 7)])
    equal(read(c, 3), span(7, 10), "from 7")
    c.close()


def admin_topics(b, name):
    a = admin(b)
    topic(b, name, 2, retention_ms="3600000")
    r = ConfigResource(ResourceType.TOPIC, name)
    equal(a.describe_configs([r])[r].result(30)["retention.ms"].value, "3600000", "retention.ms")
    entry = ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET)
    r2 = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    a.incremental_alter_configs([r2])[r2].result(30)
    equal(a.describe_configs([r])[r].result(30)["retention.ms"].value, "7200000", "retention.ms")
    a.create_partitions([NewPartitions(name, 5)])[name].result(30)
    d = a.describe_topics(TopicCollection([name]))[name].result(30)
    equal(len(d.partitions), 5, "partitions")
    tp = TopicPartition(name, 0)
    p = Producer({"bootstrap.servers": b})
    for i in range(10):
        p.produce(name, value=str(i), partition=0, timestamp=1_700_000_000_000 + (500 if i == 3 else i))
    equal(p.flush(30), 0, "records not acknowledged")
    for spec, want in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 10), (OffsetSpec.max_timestamp(), 3), (OffsetSpec.for_timestamp(1_700_000_000_006), 3)):
        got = a.list_offsets({tp: spec}, isolation_level=IsolationLevel.READ_COMMITTED)[tp].result(30)
        equal(got.offset, want, f"offset by {spec}")
    got = a.delete_records([TopicPartition(name, 0, 6)])
    equal(next(iter(got.values())).result(30).low_watermark, 6, "low watermark")
    a.delete_topics([name])[name].result(30)
    expect(KafkaException, lambda: a.describe_topics(TopicCollection([name]))[name].result(30))


def admin_groups(b, name):
    a = admin(b)
    topic(b, name)
    c = consumer(b, name)
    c.subscribe([name])
    eventually("it has the partition", lambda: c.poll(0.1) or c.assignment())
    d = a.describe_consumer_groups([name])[name].result(30)
    equal((d.state.name, len(d.members), d.coordinator.id), ("STABLE", 1, 1), "description")
    c.close()
    at = ConsumerGroupTopicPartitions(name, [TopicPartition(name, 0, 3)])
    a.alter_consumer_group_offsets([at])[name].result(30)
    got = a.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name].result(30)
    equal([tp.offset for tp in got.topic_partitions], [3], "offsets")
    check(name in [g.group_id for g in a.list_consumer_groups().result(30).valid], "the group is not listed")
    a.delete_consumer_groups([name])[name].result(30)


def admin_scram(b, name):
    a = admin(b)
    change = UserScramCredentialUpsertion(name, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), b"secret")
    a.alter_user_scram_credentials([change])[name].result(30)
    got = a.describe_user_scram_credentials([name])[name].result(30)
    equal([c.mechanism.name for c in got.scram_credential_infos], ["SCRAM_SHA_512"], "credentials")


CASES = {f"compression-{c}": roundtrip(c) for c in ("none", "gzip", "snappy", "lz4", "zstd")}
CASES["idempotent-across-kill"] = idempotent
CASES.update({"transactions": transactions, "transaction-fencing": fencing, "transaction-offsets": transaction_offsets})
CASES.update({f"group-{p}": group(c) for p, c in PROTOCOLS.items()})
CASES.update({f"static-member-{p}": static(PROTOCOLS[p]) for p in ("classic-range", "consumer")})
CASES.update({"offsets": offsets, "admin-topics": admin_topics, "admin-groups": admin_groups, "admin-scram": admin_scram})

if __name__ == "__main__":
    print("librdkafka", libversion()[0], file=sys.stderr)
    main(CASES)
