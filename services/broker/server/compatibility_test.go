package server

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var update = flag.Bool("update", false, "rewrite the tables of docs/kafka-compatibility.md")

const compatibilityPage = "../../../docs/kafka-compatibility.md"

// notServed says why a key of Kafka's has no handler here.
var notServed = []struct {
	reason string
	keys   []kmsg.Key
}{
	{"between brokers of a cluster that ZooKeeper ran; gone from Kafka 4", []kmsg.Key{kmsg.LeaderAndISR, kmsg.StopReplica, kmsg.UpdateMetadata, kmsg.ControlledShutdown}},
	{"between brokers and controllers of a cluster; there is one broker", []kmsg.Key{kmsg.AlterPartition, kmsg.Envelope, kmsg.BrokerRegistration,
		kmsg.BrokerHeartbeat, kmsg.UnregisterBroker, kmsg.AllocateProducerIDs, kmsg.ControllerRegistration, kmsg.UnregisterController}},
	{"between the controllers of a Raft quorum; there is one broker", []kmsg.Key{kmsg.Vote, kmsg.BeginQuorumEpoch, kmsg.EndQuorumEpoch,
		kmsg.FetchSnapshot, kmsg.AddRaftVoter, kmsg.RemoveRaftVoter, kmsg.UpdateRaftVoter}},
	{"there is one directory of logs", []kmsg.Key{kmsg.AssignReplicasToDirs}},
	{"delegation tokens; clients authenticate themselves", []kmsg.Key{kmsg.CreateDelegationToken, kmsg.RenewDelegationToken, kmsg.ExpireDelegationToken, kmsg.DescribeDelegationToken}},
	{"metrics pushed by clients (KIP-714); clients that find it missing go on without", []kmsg.Key{kmsg.GetTelemetrySubscriptions, kmsg.PushTelemetry}},
	{"between brokers, for share groups", []kmsg.Key{kmsg.InitializeShareGroupState, kmsg.ReadShareGroupState, kmsg.WriteShareGroupState, kmsg.DeleteShareGroupState, kmsg.ReadShareGroupStateSummary}},
	{"streams groups (KIP-1071): not yet; Kafka Streams uses classic groups unless told otherwise", []kmsg.Key{kmsg.StreamsGroupHeartbeat, kmsg.StreamsGroupDescribe, kmsg.StreamsGroupTopologyDescriptionUpdate}},
}

// TestCompatibilityPage holds the tables of docs/kafka-compatibility.md to
// the handlers: -update writes them.
func TestCompatibilityPage(t *testing.T) {
	page, err := os.ReadFile(compatibilityPage)
	if err != nil {
		t.Fatal(err)
	}
	want := string(page)
	for name, table := range map[string]string{"served": servedTable(t), "not served": notServedTable(t), "features": featuresTable()} {
		begin, end := fmt.Sprintf("<!-- %s: generated -->\n", name), fmt.Sprintf("<!-- %s: end -->\n", name)
		before, rest, ok := strings.Cut(want, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s has no place for the table %q", compatibilityPage, name)
		}
		want = before + begin + table + end + after
	}
	if *update {
		if err := os.WriteFile(compatibilityPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := gocmp.Diff(want, string(page)); diff != "" {
		t.Errorf("%s is stale; go test ./services/broker/server -run TestCompatibilityPage -update (-want +got):\n%s", compatibilityPage, diff)
	}
}

func servedTable(t *testing.T) string {
	comments := apiComments(t)
	all := apis()
	slices.SortFunc(all, func(a, b api) int { return cmp.Compare(a.key, b.key) })
	var b strings.Builder
	b.WriteString("| key | API | versions | newest known | what it answers, and what is left out |\n|---:|---|---|---:|---|\n")
	for _, a := range all {
		name, newest := a.key.Name(), kmsg.RequestForKey(a.key.Int16()).MaxVersion()
		text := comments[strings.ToLower(name)]
		if text == "" {
			t.Errorf("%s has no comment %q above its variable", name, name+": ...")
		}
		versions := fmt.Sprintf("%d to %d", a.min, a.max)
		if a.min == a.max {
			versions = fmt.Sprint(a.min)
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %d | %s |\n", a.key, name, versions, newest, text)
	}
	return b.String()
}

var (
	versionsSentence = regexp.MustCompile(`^Versions? \d+( (to|and) \d+)?\.\s*`)
	spaces           = regexp.MustCompile(`\s+`)
)

// apiComments reads the comments of the API variables, by the key's name in
// small letters, with which each begins.
func apiComments(t *testing.T) map[string]string {
	files, err := filepath.Glob("[0-9][0-9]_*.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR || gen.Doc == nil {
				continue
			}
			name, text, ok := strings.Cut(gen.Doc.Text(), ": ")
			if !ok || strings.ContainsAny(name, " \n") {
				continue
			}
			var paragraphs []string
			for _, p := range strings.Split(text, "\n\n") {
				p = versionsSentence.ReplaceAllString(strings.TrimSpace(p), "")
				if p = spaces.ReplaceAllString(p, " "); p != "" {
					paragraphs = append(paragraphs, p)
				}
			}
			text = strings.Join(paragraphs, " ")
			out[strings.ToLower(name)] = strings.ReplaceAll(strings.ToUpper(text[:1])+text[1:], "|", "\\|")
		}
	}
	return out
}

func notServedTable(t *testing.T) string {
	served := map[kmsg.Key]bool{}
	for _, a := range apis() {
		served[a.key] = true
	}
	var b strings.Builder
	b.WriteString("| API (key) | why |\n|---|---|\n")
	reasoned := map[kmsg.Key]bool{}
	for _, group := range notServed {
		var names []string
		for _, k := range group.keys {
			reasoned[k] = true
			if !served[k] {
				names = append(names, fmt.Sprintf("%s (%d)", k.Name(), k))
			}
		}
		if len(names) > 0 {
			fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(names, ", "), group.reason)
		}
	}
	for k := range kmsg.Key(kmsg.MaxKey + 1) {
		if kmsg.RequestForKey(k.Int16()) != nil && !served[k] && !reasoned[k] {
			t.Errorf("%s (%d) is neither served nor in the table of those that are not", k.Name(), k)
		}
	}
	return b.String()
}

func featuresTable() string {
	var b strings.Builder
	b.WriteString("| feature | levels |\n|---|---|\n")
	for _, f := range features {
		fmt.Fprintf(&b, "| `%s` | %d to %d |\n", f.name, f.min, f.max)
	}
	return b.String()
}
