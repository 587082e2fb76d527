package clients

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the parts of README.md that tests make")

// suite is one row of README.md's table. Its cases are a part of that page,
// which the test that runs them compares with what ran.
type suite struct {
	name    string // of the part of the page
	client  string
	what    string
	version string // file with the version, below the source's root; "": pattern is what to say
	pattern string // that finds the version in the file
	test    string // that runs it
	skips   []skip
}

var suites = []suite{
	{"kgo", "franz-go", "its own tests", "go.mod", `twmb/franz-go v(\S+)`, "TestKgo", kgoSkips},
	{"java", "Apache Kafka, Java", "producer, transactions, consumer, both group protocols, share groups, Admin, Streams", javaPom, javaVersion, "TestJava", nil},
	{"java-tools", "Apache Kafka, tools", "kafka-topics, -configs, -consumer-groups, -share-groups, -transactions, -reassign-partitions and the others; left out: streams groups, delegation tokens, dumps of logs", javaPom, javaVersion, "TestJavaTools", nil},
	{"java-security", "Apache Kafka, Java", "TLS, SASL, access rules, quotas", javaPom, javaVersion, "TestJavaSecurity", nil},
	{"java-old", "Apache Kafka, Java", "the oldest that Kafka 4 serves: producer, transactions, group, Admin", "test/clients/testdata/java-old/pom.xml", javaVersion, "TestOldJava", nil},
	{"connect", "Kafka Connect", "file source and sink; standalone, and distributed exactly once", javaPom, javaVersion, "TestConnect", nil},
	{"mirror", "MirrorMaker 2", "from and to Apache Kafka, exactly once", javaPom, javaVersion, "TestMirrorMaker2", nil},
	{"librdkafka", "librdkafka, by confluent-kafka", "producer, transactions, both group protocols, Admin", pythonPins, `confluent-kafka==(\S+)`, "TestLibrdkafka", nil},
	{"librdkafka-security", "librdkafka, by confluent-kafka", "TLS, SASL", pythonPins, `confluent-kafka==(\S+)`, "TestLibrdkafkaSecurity", nil},
	{"kcat", "kcat", "codecs, group, offsets, metadata, by an older librdkafka", "", "Debian's", "TestKcat", nil},
	{"kafka-python", "kafka-python", "producer, transactions, group, offsets", pythonPins, `kafka-python==(\S+)`, "TestKafkaPython", nil},
	{"golang", "Sarama", "producer in versions of Kafka from 1.0 on, transactions, group, Admin", goMod, `IBM/sarama v(\S+)`, "TestSaramaAndKafkaGo", nil},
	{"golang", "kafka-go", "writer, reader, group, connection, client", goMod, `segmentio/kafka-go v(\S+)`, "TestSaramaAndKafkaGo", nil},
	{"kafkajs", "KafkaJS", "producer, transactions, group, Admin; needs npm", "test/clients/testdata/node/package.json", `"kafkajs": "(\S+)"`, "TestKafkaJS", nil},
	{"registry", "schema registries' pattern", "by hand: no registry is on PyPI or Maven Central", "", "none", "TestSchemaRegistryPattern", nil},
}

const (
	javaPom     = "test/clients/testdata/java/pom.xml"
	javaVersion = `<kafka.version>(\S+)</kafka.version>`
	pythonPins  = "test/clients/testdata/python/requirements.txt"
	goMod       = "test/clients/testdata/golang/go.mod"
)

// TestTable keeps the table of README.md, with the versions as pinned.
func TestTable(t *testing.T) {
	var table, skips strings.Builder
	table.WriteString("| client | version | what | result | run by |\n|---|---|---|---|---|\n")
	skips.WriteString("| suite | test | why |\n|---|---|---|\n")
	for _, s := range suites {
		result := "passes"
		if n := len(s.skips); n > 0 {
			result = fmt.Sprintf("passes, %d skipped", n)
		}
		fmt.Fprintf(&table, "| %s | %s | %s | %s | `%s` |\n", s.client, pinned(t, s), s.what, result, s.test)
		for _, skip := range s.skips {
			fmt.Fprintf(&skips, "| %s | `%s` | %s |\n", s.name, skip.name, skip.why)
		}
	}
	part(t, "table", table.String())
	part(t, "skips", skips.String())
}

func pinned(t *testing.T, s suite) string {
	t.Helper()
	if s.version == "" {
		return s.pattern
	}
	text, err := os.ReadFile(filepath.Join("..", "..", s.version))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(s.pattern).FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has nothing like %s", s.version, s.pattern)
	}
	return string(m[1])
}

// ran compares the cases that a suite ran with its part of the page. Cases
// that were picked are no complete run.
func ran(t *testing.T, suite string, names []string) {
	t.Helper()
	if os.Getenv("WAYSIDE_CLIENTS_CASES") != "" || t.Failed() {
		return
	}
	groups := map[string][]string{}
	for _, name := range names {
		group, rest, ok := strings.Cut(name, "/")
		if !ok {
			group, rest = suite, name
		}
		groups[group] = append(groups[group], "`"+rest+"`")
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d cases.\n\n", len(names))
	if suite == "kgo" {
		clear(groups) // they are listed where they come from
	}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		slices.Sort(groups[group])
		fmt.Fprintf(&text, "- %s: %s\n", group, strings.Join(groups[group], ", "))
	}
	part(t, suite, text.String())
}

var page sync.Mutex

// part compares a part of README.md, between two comments, with what it
// should be, and writes it with -update.
func part(t *testing.T, name, want string) {
	t.Helper()
	page.Lock()
	defer page.Unlock()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	got, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("README.md has no part between %q and %q", begin, end)
	}
	if *update {
		if err := os.WriteFile("README.md", []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("README.md, %s (-page +run); if meant, run it with -update:\n%s", name, diff)
	}
}
