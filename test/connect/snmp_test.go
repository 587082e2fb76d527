package connect

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

// freeDatagrams is an address where nobody takes datagrams.
func freeDatagrams(t testing.TB) string {
	t.Helper()
	for {
		at := connecttest.FreeAddress(t)
		pc, err := net.ListenPacket("udp", at)
		if err == nil {
			pc.Close()
			return at
		}
	}
}

// snmpBox is waysided connect with a profile and the secrets of these tests.
func snmpBox(t testing.TB, kafka *process, text string) *process {
	t.Helper()
	secrets := t.TempDir()
	for name, text := range map[string]string{"word": "hidden-word", "auth": "twelve monkeys", "priv": "seven samurai"} {
		write(t, filepath.Join(secrets, name), text+"\n")
	}
	return connectors(t, "--broker", kafka.addr, "--data", t.TempDir(), "--secrets", secrets,
		"--run-dir", t.TempDir(), "--site", profile(t, text))
}

// netSNMP keeps net-snmp's programs off the machine's own settings and files.
func netSNMP(t *testing.T) (dir string) {
	dir = t.TempDir()
	t.Setenv("SNMPCONFPATH", dir)
	t.Setenv("SNMP_PERSISTENT_DIR", dir)
	return dir
}

// readsCommands waits until a connector knows where in the topic its commands
// begin: what was there before is not carried out.
func readsCommands(t testing.TB, kafka, name, topic string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	until(t, name+" to read its commands", func() bool {
		offsets, err := kadm.NewClient(cl).FetchOffsets(t.Context(), "wayside-connect.test."+name)
		_, known := offsets.Lookup(topic, 0)
		return err == nil && known
	})
}

// TestSNMPAgent polls, walks and writes net-snmp's agent in each version, and
// finds it again when it was away.
func TestSNMPAgent(t *testing.T) {
	need(t)
	snmpd := tool(t, "snmpd")
	conf := filepath.Join(netSNMP(t), "agent.conf")
	at := freeDatagrams(t)
	write(t, conf, fmt.Sprintf(`agentAddress udp:%s
rwcommunity hidden-word
createUser till SHA-256 "twelve monkeys" AES "seven samurai"
createUser old SHA "twelve monkeys" AES "seven samurai"
rwuser till priv
rwuser old priv
`, at))
	serve := func() *process { return start(t, snmpd, "-f", "-Lo", "-r", "-C", "-c", conf) }
	agent := serve()
	kafka := edge(t)
	agents := map[string]string{
		"v1":  `version: "1", community: word`,
		"v2c": `version: 2c, community: word`,
		"v3":  `user: {name: till, auth: sha256, auth_password: auth, priv: aes, priv_password: priv}`,
		"old": `user: {name: old, auth: sha, auth_password: auth, priv: aes, priv_password: priv}`,
	}
	text := "connect:\n  snmp:\n"
	for name, how := range agents {
		text += fmt.Sprintf(`    - {name: %[1]s, address: "%[2]s", every: 100ms, timeout: 1s, max_repetitions: 2, %[3]s,
       points: [{name: contact, oid: 1.3.6.1.2.1.1.4.0, writable: true}, {name: object, oid: 1.3.6.1.2.1.1.2.0},
         {name: lacking, oid: 1.3.6.1.4.1.99999.1.0}, {name: services, oid: 1.3.6.1.2.1.2.2.1.3.1}],
       walks: [{name: descr, oid: 1.3.6.1.2.1.2.2.1.2}, {name: none, oid: 1.3.6.1.4.1.99999}],
       commands: {topic: %[1]s.commands}}
`, name, at, how)
	}
	snmpBox(t, kafka, text)
	begin := map[string]int{} // records that are of before
	seen := func(name string, want map[string]any) {
		t.Helper()
		var got map[string]any
		defer func() {
			if t.Failed() {
				t.Logf("of %s came %v", name, got)
			}
		}()
		records(t, kafka.addr, name, func(rs []*kgo.Record) bool {
			got = values(latest(t, rs[min(begin[name], len(rs)):]))
			for point, v := range want {
				if !cmp.Equal(v, got[point]) {
					return false
				}
			}
			begin[name] = len(rs)
			return true
		})
	}
	for name := range agents {
		// 24 is ifType of the loopback, and the object identifier is net-snmp's of Linux.
		seen(name, map[string]any{"object": "1.3.6.1.4.1.8072.3.2.10", "lacking": "bad", "services": 24.0, "descr.1": "lo"})
		contact := "called by " + name
		if a := command(t, kafka.addr, name+".commands", "1", "contact", contact); a["ok"] != true || a["value"] != contact {
			t.Errorf("%s: the answer is %v", name, a)
		}
		seen(name, map[string]any{"contact": contact})
		if a := command(t, kafka.addr, name+".commands", "2", "object", "1.3.6"); a["ok"] != false {
			t.Errorf("%s: the answer is %v", name, a)
		}
	}
	agent.stop()
	for name := range agents {
		seen(name, map[string]any{"object": "bad", "services": "bad", "descr.1": "bad"}) // the last there is: once
	}
	serve() // which has counted one more boot: version 3 has to notice
	for name := range agents {
		seen(name, map[string]any{"object": "1.3.6.1.4.1.8072.3.2.10", "descr.1": "lo"})
	}
}

// TestSNMPTraps: net-snmp's traps of each version come, and its inform is
// acknowledged.
func TestSNMPTraps(t *testing.T) {
	need(t)
	snmptrap := tool(t, "snmptrap")
	netSNMP(t)
	at := freeDatagrams(t)
	kafka := edge(t)
	snmpBox(t, kafka, fmt.Sprintf(`connect:
  snmp_traps:
    - name: traps
      listen: %q
      community: word
      users:
        - {name: till, auth: sha256, auth_password: auth, priv: aes, priv_password: priv}
`, at))
	until(t, "the box to listen", func() bool { return takesDatagrams(t, at) })
	object := []string{"1.3.6.1.4.1.99999.1", "s", "door is open"}
	trap := func(args ...string) { t.Helper(); output(t, snmptrap, append(args, object...)...) }
	trap("-v", "1", "-c", "hidden-word", at, "1.3.6.1.4.1.99999", "192.0.2.1", "6", "17", "42")
	trap("-v", "2c", "-c", "hidden-word", at, "42", "1.3.6.1.6.3.1.1.5.3")
	trap("-v", "2c", "-c", "another", at, "42", "1.3.6.1.6.3.1.1.5.3")
	trap("-v", "3", "-e", "0x8000000001020304", "-u", "till", "-l", "authPriv", "-a", "SHA-256", "-A", "twelve monkeys", "-x", "AES", "-X", "seven samurai",
		at, "42", "1.3.6.1.6.3.1.1.5.4")
	trap("-v", "2c", "-Ci", "-c", "hidden-word", at, "42", "1.3.6.1.6.3.1.1.5.5") // fails if it hears nothing
	trap("-v", "3", "-Ci", "-u", "till", "-l", "authPriv", "-a", "SHA-256", "-A", "twelve monkeys", "-x", "AES", "-X", "seven samurai",
		at, "42", "1.3.6.1.6.3.1.1.5.5")
	type notification struct {
		Version, Trap string
		Inform        bool
		Uptime        int
		User          string
		Variables     []struct {
			OID, Type string
			Value     any
		}
	}
	want := []notification{
		{Version: "1", Trap: "1.3.6.1.4.1.99999.0.17"}, {Version: "2c", Trap: "1.3.6.1.6.3.1.1.5.3"},
		{Version: "3", Trap: "1.3.6.1.6.3.1.1.5.4", User: "till"}, {Version: "2c", Trap: "1.3.6.1.6.3.1.1.5.5", Inform: true},
		{Version: "3", Trap: "1.3.6.1.6.3.1.1.5.5", Inform: true, User: "till"},
	}
	got := map[string]notification{} // traps are spooled, informs are not: their order is free
	records(t, kafka.addr, "traps", func(rs []*kgo.Record) bool {
		for _, r := range rs {
			var n notification
			if err := json.Unmarshal(r.Value, &n); err != nil {
				t.Fatal(err)
			}
			got[n.Version+n.Trap] = n
		}
		return len(got) >= len(want)
	})
	for _, n := range want {
		n.Uptime = 42
		n.Variables = append(n.Variables, struct {
			OID, Type string
			Value     any
		}{object[0], "OctetString", object[2]})
		if diff := cmp.Diff(n, got[n.Version+n.Trap]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	records(t, kafka.addr, "dead-letters.traps", atLeast(1))
}
