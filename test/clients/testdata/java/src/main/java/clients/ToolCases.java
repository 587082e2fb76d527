package clients;

import static clients.Env.check;
import static clients.Env.equal;
import static clients.Env.eventually;
import static clients.ToolRun.file;
import static clients.ToolRun.run;
import static clients.ToolRun.tool;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

import kafka.admin.ConfigCommand;

import clients.ToolRun.Ran;
import clients.ToolRun.Tool;

import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.tools.AclCommand;
import org.apache.kafka.tools.BrokerApiVersionsCommand;
import org.apache.kafka.tools.ClientMetricsCommand;
import org.apache.kafka.tools.ClusterTool;
import org.apache.kafka.tools.DelegationTokenCommand;
import org.apache.kafka.tools.DeleteRecordsCommand;
import org.apache.kafka.tools.FeatureCommand;
import org.apache.kafka.tools.GetOffsetShell;
import org.apache.kafka.tools.GroupsCommand;
import org.apache.kafka.tools.LeaderElectionCommand;
import org.apache.kafka.tools.LogDirsCommand;
import org.apache.kafka.tools.MetadataQuorumCommand;
import org.apache.kafka.tools.TopicCommand;
import org.apache.kafka.tools.TransactionsCommand;
import org.apache.kafka.tools.consumer.ConsoleShareConsumer;
import org.apache.kafka.tools.consumer.group.ConsumerGroupCommand;
import org.apache.kafka.tools.consumer.group.ShareGroupCommand;
import org.apache.kafka.tools.reassign.ReassignPartitionsCommand;
import org.apache.kafka.tools.streams.StreamsGroupCommand;

/** The tools by which people look after topics, groups, transactions and the cluster. */
final class ToolCases {
    static void add(Map<String, Main.Case> all) {
        all.put("tools/topics", ToolCases::topics);
        all.put("tools/configs", ToolCases::configs);
        all.put("tools/client-quotas-and-users", ToolCases::entities);
        all.put("tools/consumer-groups", ToolCases::consumerGroups);
        all.put("tools/share-groups", ToolCases::shareGroups);
        all.put("tools/transactions", ToolCases::transactions);
        all.put("tools/reassign-partitions", ToolCases::reassign);
        all.put("tools/leader-election", ToolCases::leaders);
        all.put("tools/log-dirs", ToolCases::logDirs);
        all.put("tools/records-and-offsets", ToolCases::records);
        all.put("tools/features", ToolCases::features);
        all.put("tools/cluster", ToolCases::cluster);
        all.put("tools/left-out", ToolCases::leftOut);
    }

    static void topics(Env env) throws Exception {
        String t = env.unique();
        tool(env, TopicCommand::main, "--create", "--topic", t, "--partitions", "2", "--replication-factor", "1",
            "--config", "retention.ms=3600000").says("Created topic " + t);
        tool(env, TopicCommand::main, "--create", "--if-not-exists", "--topic", t).says();
        equal(tool(env, TopicCommand::main, "--create", "--topic", t).prints("already exists").status(), 1, "made twice");
        tool(env, TopicCommand::main, "--list").says(t);
        Ran described = tool(env, TopicCommand::main, "--describe", "--topic", t)
            .says("PartitionCount: 2", "ReplicationFactor: 1", "retention.ms=3600000", "Leader: 1", "Isr: 1");
        tool(env, TopicCommand::main, "--describe", "--topic-id", described.find("TopicId: (\\S+)")).says("Topic: " + t);
        tool(env, TopicCommand::main, "--describe", "--topics-with-overrides").says("Topic: " + t);
        for (String odd : List.of("--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions", "--at-min-isr-partitions")) {
            Ran none = tool(env, TopicCommand::main, "--describe", "--topic", t, odd).says();
            check(odd.startsWith("--at") || !none.text().contains("Topic: "), "%s: %s", odd, none.text());
        }
        tool(env, TopicCommand::main, "--alter", "--topic", t, "--partitions", "5").says();
        tool(env, TopicCommand::main, "--describe", "--topic", t).says("PartitionCount: 5");
        equal(tool(env, TopicCommand::main, "--alter", "--topic", t, "--partitions", "3").status(), 1, "fewer partitions");
        tool(env, TopicCommand::main, "--delete", "--topic", t).says();
        equal(tool(env, TopicCommand::main, "--describe", "--topic", t).prints("does not exist").status(), 1, "a topic that is gone");
    }

    static void configs(Env env) throws Exception {
        String t = env.topic(1);
        Tool configs = ConfigCommand::main;
        tool(env, configs, "--alter", "--topic", t, "--add-config", "retention.ms=1234567,cleanup.policy=[compact,delete]").says("Completed");
        tool(env, configs, "--describe", "--topic", t).says("retention.ms=1234567", "cleanup.policy=compact,delete");
        tool(env, configs, "--alter", "--topic", t, "--delete-config", "retention.ms").says("Completed");
        check(!tool(env, configs, "--describe", "--topic", t).says().text().contains("1234567"), "it is still there");
        check(tool(env, configs, "--alter", "--topic", t, "--add-config", "retention.ms=soon").status() != 0, "a bad value is taken");
        check(tool(env, configs, "--alter", "--topic", t, "--add-config", "no.such.config=1").status() != 0, "an unknown name is taken");
        tool(env, configs, "--describe", "--topic", t, "--all").says("segment.bytes=", "DEFAULT_CONFIG");
        tool(env, configs, "--describe", "--entity-type", "brokers", "--entity-name", "1", "--all").says("num.partitions=");
        tool(env, configs, "--describe", "--entity-type", "brokers", "--entity-default").says();
        tool(env, configs, "--describe", "--entity-type", "broker-loggers", "--entity-name", "1").says();
        tool(env, configs, "--alter", "--group", t, "--add-config", "consumer.session.timeout.ms=50000").says("Completed");
        tool(env, configs, "--describe", "--group", t).says("consumer.session.timeout.ms=50000");
        tool(env, configs, "--alter", "--group", t, "--delete-config", "consumer.session.timeout.ms").says("Completed");
    }

    static void entities(Env env) throws Exception {
        Tool configs = ConfigCommand::main;
        String who = env.unique();
        tool(env, configs, "--alter", "--client", who, "--add-config", "producer_byte_rate=1000000").says("Completed");
        tool(env, configs, "--describe", "--client", who).says("producer_byte_rate=1000000.0");
        tool(env, configs, "--alter", "--client", who, "--delete-config", "producer_byte_rate").says("Completed");
        tool(env, configs, "--alter", "--entity-type", "users", "--entity-name", who, "--entity-type", "clients", "--entity-default",
            "--add-config", "consumer_byte_rate=2000000,request_percentage=150").says("Completed");
        tool(env, configs, "--describe", "--entity-type", "users", "--entity-name", who, "--entity-type", "clients", "--entity-default")
            .says("consumer_byte_rate=2000000.0", "request_percentage=150.0");
        tool(env, configs, "--alter", "--ip", "192.0.2.7", "--add-config", "connection_creation_rate=10").says("Completed");
        tool(env, configs, "--describe", "--ip", "192.0.2.7").says("connection_creation_rate=10.0");
        tool(env, configs, "--alter", "--user", who, "--add-config", "SCRAM-SHA-512=[iterations=8192,password=secret]").says("Completed");
        tool(env, configs, "--describe", "--user", who).says("SCRAM-SHA-512=iterations=8192");
        tool(env, configs, "--alter", "--user", who, "--delete-config", "SCRAM-SHA-512").says("Completed");
    }

    static void consumerGroups(Env env) throws Exception {
        String t = env.topic(2);
        String group = t + "-group";
        env.produce(t, 0, 20);
        try (var c = env.consumer("group.id", group)) {
            c.subscribe(List.of(t));
            Env.read(c, 20);
            c.commitSync();
            Tool groups = ConsumerGroupCommand::main;
            tool(env, groups, "--list").says(group);
            tool(env, groups, "--describe", "--group", group, "--members", "--verbose").says("consumer-" + group, t);
            tool(env, groups, "--describe", "--group", group, "--state").says("Stable");
            tool(env, groups, "--delete", "--group", group).prints("could not be deleted");
            tool(env, groups, "--group", group, "--reset-offsets", "--to-earliest", "--topic", t, "--execute").prints("inactive");
        }
        Tool groups = ConsumerGroupCommand::main;
        tool(env, groups, "--describe", "--group", group).says("no active members", t);
        tool(env, groups, "--describe", "--all-groups", "--offsets").says(group);
        for (String[] to : new String[][] {{"--to-offset", "3"}, {"--shift-by", "-2"}, {"--to-datetime", "2020-01-01T00:00:00.000"},
            {"--by-duration", "PT1H"}, {"--to-latest"}, {"--to-current"}, {"--to-earliest"}}) {
            List<String> args = new ArrayList<>(List.of("--group", group, "--reset-offsets", "--all-topics", "--execute"));
            args.addAll(List.of(to));
            tool(env, groups, args.toArray(String[]::new)).says(t);
        }
        tool(env, groups, "--describe", "--group", group).says(t);
        tool(env, groups, "--group", group, "--delete-offsets", "--topic", t).says("Successful");
        tool(env, GroupsCommand::main, "--list").says(group, "Classic");
        tool(env, groups, "--group", group, "--delete").says("was successful");
    }

    static void shareGroups(Env env) throws Exception {
        String t = env.topic(1);
        String group = t + "-share";
        Tool shares = ShareGroupCommand::main;
        tool(env, ConfigCommand::main, "--alter", "--group", group, "--add-config", "share.auto.offset.reset=earliest").says();
        env.produce(t, 0, 30);
        run(ConsoleShareConsumer::main, "--bootstrap-server", env.bootstrap, "--topic", t, "--group", group, "--max-messages", "30").says("29");
        tool(env, GroupsCommand::main, "--list", "--share").says(group, "Share");
        tool(env, shares, "--list").says(group);
        tool(env, shares, "--describe", "--group", group).says(t);
        tool(env, shares, "--describe", "--group", group, "--state").says("Empty");
        tool(env, shares, "--group", group, "--reset-offsets", "--to-earliest", "--topic", t, "--execute").says(t);
        tool(env, shares, "--describe", "--group", group).says("30");
        tool(env, shares, "--group", group, "--delete").says("successful");
    }

    /** A transaction that is left open is found, and aborted past its coordinator. */
    static void transactions(Env env) throws Exception {
        String t = env.topic(1);
        String id = t + "-txn";
        KafkaProducer<String, String> p = env.producer("transactional.id", id, "transaction.timeout.ms", "600000");
        p.initTransactions();
        p.beginTransaction();
        p.send(new ProducerRecord<>(t, "k", "v")).get();
        Tool txns = TransactionsCommand::main;
        tool(env, txns, "list").says(id, "Ongoing");
        tool(env, txns, "list", "--duration-filter", "0").says(id);
        tool(env, txns, "list", "--transactional-id-pattern", id.substring(0, 5) + ".*").says(id);
        tool(env, txns, "describe", "--transactional-id", id).says(id, "Ongoing", t + "-0");
        String open = tool(env, txns, "describe-producers", "--topic", t, "--partition", "0").says("CurrentTransactionStartOffset")
            .find("(?m)^(\\d+)\\s");
        tool(env, txns, "describe-producers", "--topic", t, "--partition", "0", "--broker-id", "1").says(open);
        tool(env, txns, "find-hanging", "--broker-id", "1", "--max-transaction-timeout", "0").says();
        tool(env, txns, "find-hanging", "--topic", t).says();
        tool(env, txns, "abort", "--topic", t, "--partition", "0", "--start-offset", "0").says();
        eventually("the transaction is over", () -> env.all(t, "read_uncommitted").size() == 1 && env.all(t, "read_committed").isEmpty());
        tool(env, txns, "forceTerminateTransaction", "--transactionalId", id).says();
    }

    static void reassign(Env env) throws Exception {
        String t = env.topic(2);
        String topics = file("{\"topics\":[{\"topic\":\"" + t + "\"}],\"version\":1}");
        Tool reassign = ReassignPartitionsCommand::main;
        tool(env, reassign, "--generate", "--topics-to-move-json-file", topics, "--broker-list", "1").says("Proposed partition reassignment");
        String plan = file("{\"version\":1,\"partitions\":[{\"topic\":\"" + t + "\",\"partition\":0,\"replicas\":[1],\"log_dirs\":[\"any\"]}]}");
        tool(env, reassign, "--execute", "--reassignment-json-file", plan).says("Successfully started");
        tool(env, reassign, "--verify", "--reassignment-json-file", plan).says("completed");
        tool(env, reassign, "--list").says("No partition reassignments");
        tool(env, reassign, "--execute", "--throttle", "1000000", "--reassignment-json-file", plan).says("Successfully started");
        tool(env, reassign, "--verify", "--reassignment-json-file", plan).says("completed");
        String elsewhere = file("{\"version\":1,\"partitions\":[{\"topic\":\"" + t + "\",\"partition\":0,\"replicas\":[2]}]}");
        check(tool(env, reassign, "--execute", "--reassignment-json-file", elsewhere).status() != 0, "a broker that is not there is taken");
        tool(env, reassign, "--cancel", "--reassignment-json-file", plan).says("None of the specified partition moves are active");
    }

    static void leaders(Env env) throws Exception {
        String t = env.topic(1);
        tool(env, LeaderElectionCommand::main, "--election-type", "preferred", "--topic", t, "--partition", "0").says("already elected");
        tool(env, LeaderElectionCommand::main, "--election-type", "preferred", "--all-topic-partitions").says();
        tool(env, LeaderElectionCommand::main, "--election-type", "unclean", "--topic", t, "--partition", "0").says("already elected");
    }

    static void logDirs(Env env) throws Exception {
        String t = env.topic(1);
        env.produce(t, 0, 10);
        tool(env, LogDirsCommand::main, "--describe", "--topic-list", t).says("\"partition\":\"" + t + "-0\"", "\"error\":null");
        tool(env, LogDirsCommand::main, "--describe").says("\"broker\":1");
    }

    static void records(Env env) throws Exception {
        String t = env.topic(1);
        env.produce(t, 0, 50);
        String to = file("{\"partitions\":[{\"topic\":\"" + t + "\",\"partition\":0,\"offset\":20}],\"version\":1}");
        tool(env, DeleteRecordsCommand::main, "--offset-json-file", to).says("low_watermark: 20");
        Tool offsets = GetOffsetShell::main;
        tool(env, offsets, "--topic", t, "--time", "earliest").says(t + ":0:20");
        tool(env, offsets, "--topic", t).says(t + ":0:50");
        tool(env, offsets, "--topic-partitions", t + ":0-1", "--time", "max-timestamp").says(t + ":0:");
        tool(env, offsets, "--topic", t, "--time", "earliest-local").says(t + ":0:20");
        tool(env, offsets, "--topic", t, "--time", "latest-tiered").says();
        tool(env, offsets, "--topic", t, "--time", "earliest-pending-upload").says();
    }

    static void features(Env env) throws Exception {
        Tool features = FeatureCommand::main;
        tool(env, features, "describe").says("transaction.version", "group.version", "share.version");
        tool(env, features, "downgrade", "--feature", "share.version=0").says();
        tool(env, features, "describe").says();
        tool(env, features, "upgrade", "--feature", "share.version=1").says("upgraded to 1");
        check(tool(env, features, "upgrade", "--feature", "no.such=1").status() != 0, "an unknown feature is taken");
        tool(env, features, "version-mapping").says();
        tool(env, features, "feature-dependencies", "--feature", "share.version=1").says();
    }

    static void cluster(Env env) throws Exception {
        run(ClusterTool::main, "cluster-id", "--bootstrap-server", env.bootstrap).says("Cluster ID: " + env.admin.describeCluster().clusterId().get());
        run(ClusterTool::main, "list-endpoints", "--bootstrap-server", env.bootstrap).says("127.0.0.1");
        tool(env, MetadataQuorumCommand::main, "describe", "--status").says("LeaderId:               1", "CurrentObservers:       []");
        tool(env, MetadataQuorumCommand::main, "describe", "--replication").says("Leader");
        tool(env, BrokerApiVersionsCommand::main).says("(id: 1", "Produce(0)");
    }

    /** What docs/kafka-compatibility.md leaves out says so, and ends. */
    static void leftOut(Env env) throws Exception {
        Map<String, Ran> all = Map.of(
            "streams", tool(env, StreamsGroupCommand::main, "--describe", "--group", "x"),
            "tokens", tool(env, DelegationTokenCommand::main, "--describe", "--command-config", file("")),
            "unregister", run(ClusterTool::main, "unregister", "--bootstrap-server", env.bootstrap, "--id", "1"),
            "acls", tool(env, AclCommand::main, "--list"),
            "metrics", tool(env, ClientMetricsCommand::main, "--alter", "--name", "m", "--interval", "1000"));
        all.forEach((what, ran) -> check(!ran.text().isBlank(), "%s ended with %d and no word", what, ran.status()));
        all.get("streams").prints("STREAMS_GROUP_DESCRIBE");
        all.get("unregister").prints("does not support the broker unregistration API");
        all.get("acls").prints("Security features are disabled");
        tool(env, ClientMetricsCommand::main, "--list").says();
        tool(env, StreamsGroupCommand::main, "--list").says();
    }
}
