package clients;

import static clients.Env.check;
import static clients.Env.equal;
import static clients.Env.expect;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;

/** Transactions, and what read_committed sees of them. */
final class TransactionCases {
    static void add(Map<String, Main.Case> all) {
        all.put("transaction/commit", TransactionCases::commit);
        all.put("transaction/abort", TransactionCases::abort);
        all.put("transaction/last-stable-offset", TransactionCases::lastStableOffset);
        all.put("transaction/zombie-is-fenced", TransactionCases::zombie);
        all.put("transaction/timeout-aborts", TransactionCases::timeout);
        all.put("transaction/offsets-commit-and-abort", TransactionCases::offsets);
        all.put("transaction/read-process-write", TransactionCases::readProcessWrite);
        all.put("transaction/survives-kill", TransactionCases::survivesKill);
        all.put("transaction/many", TransactionCases::many);
        all.put("transaction/admin", TransactionCases::admin);
        all.put("transaction/fence-by-admin", TransactionCases::fenceByAdmin);
    }

    private static KafkaProducer<String, String> begin(Env env, String id, Object... configs) {
        var m = new ArrayList<>(List.of(configs));
        m.addAll(List.of("transactional.id", id));
        var p = env.producer(m.toArray());
        p.initTransactions();
        return p;
    }

    private static void send(KafkaProducer<String, String> p, String topic, int from, int to) {
        for (int i = from; i < to; i++) {
            p.send(new ProducerRecord<>(topic, "" + i, "" + i));
        }
    }

    private static List<String> readAll(Env env, String topic, String isolation) {
        return Env.values(env.all(topic, isolation));
    }

    /** A commit is answered before all of its markers are written (KIP-890), so this waits. */
    private static void committed(Env env, String topic, List<String> want) throws Exception {
        try {
            Env.eventually("committed", () -> readAll(env, topic, "read_committed").equals(want));
        } catch (AssertionError e) {
            equal(readAll(env, topic, "read_committed"), want, "committed");
        }
    }

    private static void commit(Env env) throws Exception {
        String topic = env.topic(1);
        var p = begin(env, env.unique());
        p.beginTransaction();
        send(p, topic, 0, 100);
        p.flush();
        equal(readAll(env, topic, "read_committed"), List.of(), "committed before the end");
        equal(readAll(env, topic, "read_uncommitted"), Env.range(0, 100), "uncommitted");
        p.commitTransaction();
        committed(env, topic, Env.range(0, 100));
    }

    private static void abort(Env env) throws Exception {
        String topic = env.topic(1);
        var p = begin(env, env.unique());
        p.beginTransaction();
        send(p, topic, 0, 50);
        p.flush();
        p.abortTransaction();
        p.beginTransaction();
        send(p, topic, 50, 100);
        p.commitTransaction();
        committed(env, topic, Env.range(50, 100));
        equal(readAll(env, topic, "read_uncommitted"), Env.range(0, 100), "uncommitted");
    }

    /** One open transaction holds back what was committed after it began. */
    private static void lastStableOffset(Env env) throws Exception {
        String topic = env.topic(1);
        var slow = begin(env, env.unique());
        var quick = begin(env, env.unique());
        slow.beginTransaction();
        send(slow, topic, 0, 10);
        slow.flush();
        quick.beginTransaction();
        send(quick, topic, 10, 20);
        quick.commitTransaction();
        env.produce(topic, 20, 30);
        equal(readAll(env, topic, "read_committed"), List.of(), "behind the open transaction");
        slow.abortTransaction();
        committed(env, topic, Env.range(10, 30));
    }

    private static void zombie(Env env) throws Exception {
        String topic = env.topic(1);
        String id = env.unique();
        var zombie = begin(env, id);
        zombie.beginTransaction();
        send(zombie, topic, 0, 10);
        zombie.flush();
        var next = begin(env, id); // aborts what the first has open
        next.beginTransaction();
        send(next, topic, 10, 20);
        next.commitTransaction();
        Exception e = expect(KafkaException.class, () -> {
            zombie.send(new ProducerRecord<>(topic, "zombie")).get();
            zombie.commitTransaction();
            return "a commit";
        });
        check(e instanceof ProducerFencedException || e instanceof InvalidProducerEpochException
                || e.getCause() instanceof ProducerFencedException || e.getCause() instanceof InvalidProducerEpochException,
                "the zombie is told %s", e);
        committed(env, topic, Env.range(10, 20));
    }

    private static void timeout(Env env) throws Exception {
        String topic = env.topic(1);
        var p = begin(env, env.unique(), "transaction.timeout.ms", "1000");
        p.beginTransaction();
        send(p, topic, 0, 10);
        p.flush();
        env.produce(topic, 10, 20);
        var c = env.consumer("isolation.level", "read_committed");
        c.assign(List.of(new TopicPartition(topic, 0)));
        equal(Env.values(Env.read(c, 10)), Env.range(10, 20), "what follows the transaction that ran out of time");
        expect(KafkaException.class, () -> {
            p.commitTransaction();
            return "a commit";
        });
    }

    private static Map<TopicPartition, OffsetAndMetadata> at(String topic, long offset) {
        return Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(offset));
    }

    private static void offsets(Env env) throws Exception {
        String topic = env.topic(1);
        String group = env.unique();
        var tp = new TopicPartition(topic, 0);
        var c = env.consumer("group.id", group);
        c.subscribe(List.of(topic));
        env.produce(topic, 0, 10);
        Env.read(c, 10);
        var p = begin(env, env.unique());
        p.beginTransaction();
        p.sendOffsetsToTransaction(at(topic, 5), c.groupMetadata());
        p.abortTransaction();
        equal(c.committed(java.util.Set.of(tp)).get(tp), null, "offset after an abort");
        p.beginTransaction();
        p.sendOffsetsToTransaction(at(topic, 7), c.groupMetadata());
        p.commitTransaction();
        equal(c.committed(java.util.Set.of(tp)).get(tp).offset(), 7L, "offset after a commit");
    }

    /** Copies a topic by transactions, some of which abort and are done again. */
    private static void readProcessWrite(Env env) throws Exception {
        String in = env.topic(1);
        String out = env.topic(1);
        env.produce(in, 0, 300);
        var c = env.consumer("group.id", env.unique(), "max.poll.records", "20", "isolation.level", "read_committed");
        c.subscribe(List.of(in));
        var p = begin(env, env.unique());
        int done = 0;
        for (int round = 0; done < 300; round++) {
            var records = c.poll(Duration.ofSeconds(1));
            if (records.isEmpty()) {
                continue;
            }
            p.beginTransaction();
            long next = 0;
            for (ConsumerRecord<String, String> r : records) {
                p.send(new ProducerRecord<>(out, r.key(), r.value()));
                next = r.offset() + 1;
            }
            p.sendOffsetsToTransaction(at(in, next), c.groupMetadata());
            if (round % 3 == 1) {
                p.abortTransaction();
                rewind(c);
                continue;
            }
            p.commitTransaction();
            done += records.count();
        }
        committed(env, out, Env.range(0, 300));
    }

    private static void rewind(KafkaConsumer<String, String> c) {
        c.committed(c.assignment()).forEach((tp, at) -> c.seek(tp, at == null ? 0 : at.offset()));
    }

    private static void survivesKill(Env env) throws Exception {
        String topic = env.topic(1);
        var p = begin(env, env.unique(), "request.timeout.ms", "5000");
        p.beginTransaction();
        send(p, topic, 0, 50);
        p.commitTransaction();
        p.beginTransaction();
        send(p, topic, 50, 100);
        p.flush();
        Env.ask("kill");
        equal(readAll(env, topic, "read_committed"), Env.range(0, 50), "committed after the kill");
        send(p, topic, 100, 150);
        p.commitTransaction();
        committed(env, topic, Env.range(0, 150));
    }

    private static void many(Env env) throws Exception {
        String topic = env.topic(1);
        var p = begin(env, env.unique());
        for (int i = 0; i < 100; i++) {
            p.beginTransaction();
            send(p, topic, i, i + 1);
            if (i % 2 == 0) {
                p.commitTransaction();
            } else {
                p.abortTransaction();
            }
        }
        committed(env, topic, Env.range(0, 100).stream().filter(v -> Integer.parseInt(v) % 2 == 0).toList());
    }

    private static void admin(Env env) throws Exception {
        String topic = env.topic(1);
        String id = env.unique();
        var tp = new TopicPartition(topic, 0);
        var p = begin(env, id);
        p.beginTransaction();
        send(p, topic, 0, 10);
        p.flush();
        check(env.admin.listTransactions().all().get().stream()
                .anyMatch(t -> t.transactionalId().equals(id) && t.state() == TransactionState.ONGOING), "the open transaction is not listed");
        var described = env.admin.describeTransactions(List.of(id)).description(id).get();
        equal(described.state(), TransactionState.ONGOING, "state");
        equal(described.topicPartitions(), java.util.Set.of(tp), "partitions");
        var producer = env.admin.describeProducers(List.of(tp)).partitionResult(tp).get().activeProducers().get(0);
        equal(producer.producerId(), described.producerId(), "producer of the partition");
        equal(producer.currentTransactionStartOffset().orElse(-1), 0L, "its transaction's first offset");
        // KIP-664: what an operator does to a hanging transaction.
        env.admin.abortTransaction(new AbortTransactionSpec(tp, producer.producerId(), (short) producer.producerEpoch(),
                Math.max(0, producer.coordinatorEpoch().orElse(0)))).all().get();
        committed(env, topic, List.of());
        env.produce(topic, 10, 20);
        committed(env, topic, Env.range(10, 20));
    }

    private static void fenceByAdmin(Env env) throws Exception {
        String topic = env.topic(1);
        String id = env.unique();
        var p = begin(env, id);
        p.beginTransaction();
        send(p, topic, 0, 10);
        p.flush();
        env.admin.fenceProducers(List.of(id)).all().get();
        expect(KafkaException.class, () -> {
            p.commitTransaction();
            return "a commit";
        });
        committed(env, topic, List.of());
    }
}
