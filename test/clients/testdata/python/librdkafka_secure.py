"""librdkafka against a broker that wants to know who calls. The address is a
folder with librdkafka.json, which has the configuration of each login."""
import json
import pathlib
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition, OFFSET_BEGINNING
from confluent_kafka.admin import (AclBinding, AclOperation, AclPermissionType, AdminClient, NewTopic, ResourcePatternType, ResourceType)

from cases import check, equal, eventually, expect, main


def config(folder, login, **more):
    conf = json.loads((pathlib.Path(folder) / "librdkafka.json").read_text())[login]
    if conf.get("sasl.mechanism") == "OAUTHBEARER":
        token = (pathlib.Path(folder) / "token").read_text()
        conf["oauth_cb"] = lambda _: (token, time.time() + 3600)
    return {**conf, **more}


def login(name, user):
    def case(folder, topic):
        admin = AdminClient(config(folder, "scram-admin"))
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)

        def send(login):
            errors = []
            p = Producer(config(folder, login))
            p.produce(topic, value="v", on_delivery=lambda err, _: errors.append(err))
            equal(p.flush(30), 0, "records without an answer")
            return errors[0]
        equal(send(name).code(), KafkaError.TOPIC_AUTHORIZATION_FAILED, "error without a rule")
        for op, kind, what in ((AclOperation.WRITE, ResourceType.TOPIC, topic), (AclOperation.READ, ResourceType.TOPIC, topic), (AclOperation.READ, ResourceType.GROUP, topic)):
            rule = AclBinding(kind, what, ResourcePatternType.LITERAL, "User:" + user, "*", op, AclPermissionType.ALLOW)
            admin.create_acls([rule])[rule].result(30)
        equal(send(name), None, "error")
        c = Consumer(config(folder, name, **{"group.id": topic, "auto.offset.reset": "earliest"}))
        c.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        m = eventually("the record", lambda: c.poll(0.2))
        check(m.error() is None and m.value() == b"v", f"got {m.error()} {m.value()}")
        c.close()
    return case


def wrong_password(folder, _):
    errors = []
    a = AdminClient(config(folder, "scram-bad", error_cb=errors.append))
    expect(KafkaException, lambda: a.list_topics(timeout=5))
    a.poll(1)
    check(KafkaError._AUTHENTICATION in [e.code() for e in errors], f"errors: {errors}")


CASES = {f"login-{name}": login(name, user) for name, user in
         {"scram": "ann", "tls-scram": "ann", "tls-plain": "ann", "mtls": "till", "oauth": "cloud"}.items()}
CASES["wrong-password"] = wrong_password

if __name__ == "__main__":
    main(CASES)
