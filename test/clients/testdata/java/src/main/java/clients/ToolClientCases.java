package clients;

import static clients.Env.check;
import static clients.Env.equal;
import static clients.ToolRun.run;
import static clients.ToolRun.tool;

import java.util.List;
import java.util.Map;
import java.util.Set;

import kafka.admin.ConfigCommand;

import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.tools.ClientCompatibilityTest;
import org.apache.kafka.tools.ConsoleProducer;
import org.apache.kafka.tools.ConsumerPerformance;
import org.apache.kafka.tools.EndToEndLatency;
import org.apache.kafka.tools.LogCompactionTester;
import org.apache.kafka.tools.ProducerPerformance;
import org.apache.kafka.tools.ShareConsumerPerformance;
import org.apache.kafka.tools.StreamsResetter;
import org.apache.kafka.tools.TransactionalMessageCopier;
import org.apache.kafka.tools.VerifiableConsumer;
import org.apache.kafka.tools.VerifiableShareConsumer;
import org.apache.kafka.tools.consumer.ConsoleConsumer;

/** The tools that produce and consume, those of Kafka's own system tests among them. */
final class ToolClientCases {
    static void add(Map<String, Main.Case> all) {
        all.put("tools/console", ToolClientCases::console);
        all.put("tools/performance", ToolClientCases::performance);
        all.put("tools/verifiable-consumers", ToolClientCases::verifiable);
        all.put("tools/message-copier", ToolClientCases::copier);
        all.put("tools/log-compaction", ToolClientCases::compaction);
        all.put("tools/client-compatibility", ToolClientCases::compatibility);
        all.put("tools/streams-reset", ToolClientCases::streamsReset);
    }

    static void console(Env env) throws Exception {
        String t = env.topic(1);
        run("a:1\nb:2\n", ConsoleProducer::main, "--bootstrap-server", env.bootstrap, "--topic", t,
            "--reader-property", "parse.key=true", "--reader-property", "key.separator=:", "--compression-codec", "zstd").says();
        run(ConsoleConsumer::main, "--bootstrap-server", env.bootstrap, "--topic", t, "--from-beginning", "--max-messages", "2",
            "--formatter-property", "print.key=true", "--formatter-property", "print.offset=true", "--isolation-level", "read_committed").says("a\t1", "b\t2");
        run(ConsoleConsumer::main, "--bootstrap-server", env.bootstrap, "--topic", t, "--partition", "0", "--offset", "1", "--max-messages", "1").says("2");
    }

    static void performance(Env env) throws Exception {
        String t = env.topic(2);
        run(ProducerPerformance::main, "--topic", t, "--num-records", "5000", "--record-size", "200", "--throughput", "-1",
            "--bootstrap-server", env.bootstrap, "--command-property", "acks=all", "--warmup-records", "100").says("5000 records sent");
        run(ProducerPerformance::main, "--topic", t, "--num-records", "2000", "--record-size", "200", "--throughput", "-1",
            "--bootstrap-server", env.bootstrap, "--transactional-id", t, "--transaction-duration-ms", "50").says("2000 records sent");
        tool(env, ConsumerPerformance::main, "--topic", t, "--num-records", "7000", "--group", t).says("fetch.time.ms");
        String group = t + "-share";
        tool(env, ConfigCommand::main, "--alter", "--group", group, "--add-config", "share.auto.offset.reset=earliest").says();
        tool(env, ShareConsumerPerformance::main, "--topic", t, "--num-records", "7000", "--group", group).says("fetch.time.ms");
        run(EndToEndLatency::main, "--bootstrap-server", env.bootstrap, "--topic", t, "--num-records", "20", "--producer-acks", "all",
            "--record-size", "100").says("Avg latency");
    }

    static void verifiable(Env env) throws Exception {
        String t = env.topic(2);
        env.produce(t, 0, 200);
        for (String protocol : List.of("classic", "consumer")) {
            tool(env, VerifiableConsumer::main, "--topic", t, "--group-id", t + protocol, "--group-protocol", protocol,
                "--reset-policy", "earliest", "--max-messages", "200").says("offsets_committed");
        }
        tool(env, VerifiableShareConsumer::main, "--topic", t, "--group-id", t + "share", "--offset-reset-strategy", "earliest",
            "--acknowledgement-mode", "async", "--max-messages", "200").says("offsets_acknowledged");
    }

    /** The copier of Kafka's own system tests: read, process, write, exactly once, some of it aborted. */
    static void copier(Env env) throws Exception {
        String from = env.topic(1);
        String to = env.topic(1);
        env.produce(from, 0, 500);
        run(TransactionalMessageCopier::main, "--broker-list", env.bootstrap, "--input-topic", from, "--input-partition", "0",
            "--output-topic", to, "--consumer-group", from, "--transactional-id", to, "--max-messages", "500", "--transaction-size", "50",
            "--enable-random-aborts", "--group-mode").says("\"remaining\":0");
        equal(Env.values(env.all(to, "read_committed")), Env.range(0, 500), "what was copied");
    }

    /** Kafka's own check of compaction: produces with deletions, waits for the cleaner, compares. */
    static void compaction(Env env) throws Exception {
        tool(env, LogCompactionTester::main, "--topics", "1", "--messages", "5000", "--duplicates", "10", "--percent-deletes", "10",
            "--sleep", "2").says("Data verification is completed");
    }

    static void compatibility(Env env) throws Exception {
        String t = env.topic(1);
        tool(env, ClientCompatibilityTest::main, "--topic", t, "--offsets-for-times-supported", "true", "--cluster-id-supported", "true",
            "--expect-record-too-large-exception", "false", "--num-cluster-nodes", "1", "--create-topics-supported", "true",
            "--describe-acls-supported", "true", "--describe-configs-supported", "true",
            "--idempotent-producer-supported", "true").says("SUCCESS");
    }

    static void streamsReset(Env env) throws Exception {
        String t = env.topic(1);
        env.produce(t, 0, 10);
        String internal = t + "-store-changelog";
        env.admin.createTopics(Set.of(new org.apache.kafka.clients.admin.NewTopic(internal, 1, (short) 1))).all().get();
        try (var c = env.consumer("group.id", t)) {
            c.assign(List.of(new TopicPartition(t, 0)));
            Env.read(c, 10);
            c.commitSync();
        }
        tool(env, StreamsResetter::main, "--application-id", t, "--input-topics", t, "--to-earliest", "--force").says(internal);
        check(!env.admin.listTopics().names().get().contains(internal), "%s is still there", internal);
    }
}
