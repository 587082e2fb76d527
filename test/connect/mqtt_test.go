package connect

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	frame "github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/catalog"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
)

// mosquitto's clients against our broker, by all ways in.
func TestMQTTMosquittoClients(t *testing.T) {
	need(t)
	pub, sub, passwd := tool(t, "mosquitto_pub"), tool(t, "mosquitto_sub"), tool(t, "mosquitto_passwd")
	secrets := certificates(t, "till-7")
	write(t, filepath.Join(secrets, "users"), "gateway:open sesame\n")
	output(t, passwd, "-U", filepath.Join(secrets, "users")) // hashes what is there
	kafka := edge(t)
	secure := connecttest.FreeAddress(t)
	m := daemon(t, "mqtt", "--listen", "127.0.0.1:0", "--broker", kafka.addr, "--secrets", secrets, "--site", profile(t, `
connect:
  mqtt:
    listeners:
      - {name: secure, listen: "`+secure+`", tls: {cert: server.pem, key: server.key, client_ca: ca.pem, client_auth: request}}
    users: users
    acl:
      - {user: gateway, publish: ["#"], subscribe: ["#"]}
      - {user: "*", publish: ["till/{user}/#", "only/{client}"], subscribe: ["cmd/{user}"]}
    routes: [{filter: "#", topic: mqtt}]
    publish: [{topic: commands, to: "cmd/{key}", qos: 1}]
`))
	at := func(addr string, more ...string) []string {
		host, port, _ := net.SplitHostPort(addr)
		return append([]string{"-h", host, "-p", port}, more...)
	}
	ca := filepath.Join(secrets, "ca.pem")
	byCert := at(secure, "--cafile", ca, "--cert", filepath.Join(secrets, "till-7.pem"), "--key", filepath.Join(secrets, "till-7.key"))
	byPassword := at(secure, "--cafile", ca, "-u", "gateway", "-P", "open sesame")
	plain := at(m.addr, "-u", "gateway", "-P", "open sesame")

	want := map[string]bool{}
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for _, qos := range []string{"0", "1", "2"} {
			for name, way := range map[string][]string{"cert": byCert, "password": byPassword, "plain": plain} {
				text := version + " " + qos + " " + name
				want[text] = true
				output(t, pub, append(way, "-V", version, "-q", qos, "-t", "till/till-7/"+qos, "-m", text)...)
			}
		}
	}
	for _, r := range records(t, kafka.addr, "mqtt", atLeast(len(want))) {
		if !want[string(r.Value)] {
			t.Errorf("record %q is there twice, or from nobody", r.Value)
		}
		delete(want, string(r.Value))
	}
	for text := range want {
		t.Errorf("%q is not in Kafka", text)
	}

	refuse := func(what string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), pub, args...).CombinedOutput(); err == nil {
			t.Errorf("%s was let through: %s", what, out)
		}
	}
	refuse("a wrong password", append(at(secure, "--cafile", ca, "-u", "gateway", "-P", "guess"), "-t", "a", "-m", "x")...)
	refuse("nobody", append(at(secure, "--cafile", ca), "-t", "a", "-m", "x")...)
	refuse("a foreign topic, 3.1.1", append(byCert, "-q", "1", "-t", "till/till-8/1", "-m", "x")...)
	out, _ := exec.CommandContext(t.Context(), pub, append(byCert, "-V", "mqttv5", "-q", "1", "-t", "till/till-8/1", "-m", "x")...).CombinedOutput()
	if !strings.Contains(string(out), "Not authorized") {
		t.Errorf("a foreign topic, MQTT 5: mosquitto_pub said %q, want Not authorized", out)
	}

	// Retained, and the will of one that is killed.
	output(t, pub, append(plain, "-r", "-q", "1", "-t", "state/door", "-m", "open")...)
	if out := output(t, sub, append(plain, "-t", "state/#", "-C", "1", "-F", "%r %t %p", "-W", "20")...); out != "1 state/door open\n" {
		t.Errorf("retained message: mosquitto_sub printed %q", out)
	}
	doomed := listen(t, append(plain, "-t", "x", "-i", "doomed", "--will-topic", "state/doomed", "--will-payload", "gone", "--will-qos", "2", "-d")...)
	watcher := listen(t, append(plain, "-t", "state/doomed", "-q", "2", "-C", "1", "-W", "30", "-d")...)
	until(t, "both to be subscribed", func() bool {
		return strings.Contains(doomed.out.String(), "Subscribed") && strings.Contains(watcher.out.String(), "Subscribed")
	})
	doomed.kill()
	until(t, "the will", watcher.ended)
	if !strings.Contains(watcher.out.String(), "\ngone\n") {
		t.Errorf("the will did not come:\n%s", watcher.out.String())
	}

	// A command from Kafka, to the user it is for.
	till := listen(t, append(byCert, "-t", "cmd/till-7", "-q", "1", "-C", "1", "-W", "30", "-d")...)
	until(t, "the till to be subscribed", func() bool { return strings.Contains(till.out.String(), "Subscribed") })
	produce(t, kafka.addr, &kgo.Record{Topic: "commands", Key: []byte("till-7"), Value: []byte("restart")})
	until(t, "the command", till.ended)
	if !strings.Contains(till.out.String(), "\nrestart\n") {
		t.Errorf("the command did not come:\n%s", till.out.String())
	}

	// A session whose client is away, over a kill -9 of the service.
	away := append(at(m.addr, "-u", "gateway", "-P", "open sesame"), "-t", "jobs/#", "-i", "worker", "-c", "-q", "1")
	output(t, sub, append(away, "-E")...) // subscribes and leaves
	for i := range 3 {
		output(t, pub, append(plain, "-q", "1", "-t", "jobs/1", "-m", strconv.Itoa(i))...)
	}
	refuse("another user, with the identifier of a session that is away", append(byCert, "-i", "worker", "-t", "till/till-7/1", "-m", "x")...)
	m.kill()
	m = daemon(t, append([]string{"mqtt"}, append(m.cmd.Args[2:], "--listen", m.addr)...)...)
	if out := output(t, sub, append(away, "-C", "3", "-W", "30")...); out != "0\n1\n2\n" {
		t.Errorf("the worker got %q, want three jobs in order", out)
	}

	// Two share.
	var members [2]*process
	for i := range members {
		members[i] = listen(t, append(plain, "-t", "$share/g/work/#", "-q", "1", "-V", "mqttv5", "-d", "-i", "member"+strconv.Itoa(i))...)
	}
	until(t, "both to share", func() bool {
		return strings.Contains(members[0].out.String(), "Subscribed") && strings.Contains(members[1].out.String(), "Subscribed")
	})
	for i := range 10 {
		output(t, pub, append(plain, "-q", "1", "-t", "work/1", "-m", "job-"+strconv.Itoa(i))...)
	}
	count := func(i int) int { return strings.Count(members[i].out.String(), "\njob-") }
	until(t, "ten jobs", func() bool { return count(0)+count(1) >= 10 })
	if count(0) != 5 || count(1) != 5 {
		t.Errorf("members got %d and %d jobs, want 5 each", count(0), count(1))
	}
}

// listen runs mosquitto_sub, whose words come line by line only if told so.
func listen(t testing.TB, args ...string) *process {
	return start(t, tool(t, "stdbuf"), append([]string{"-oL", tool(t, "mosquitto_sub")}, args...)...)
}

func produce(t testing.TB, broker string, rs ...*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// Devices with persistent sessions publish with QoS 1 and 2, and a subscriber
// with QoS 2 listens, while the service is killed again and again: nothing
// that was acknowledged is lost, and nothing of QoS 2 comes twice, neither in
// Kafka nor at the subscriber. The clients are Eclipse Paho's in Python: the
// one in Go for MQTT 3.1.1 sends PUBLISH again after PUBREL, and hands on a
// QoS 2 message each time it comes.
func TestMQTTKill(t *testing.T) {
	need(t)
	const each, kills = 1500, 6
	py := python(t, "paho-mqtt==2.1.0")
	kafka := edge(t)
	addr := connecttest.FreeAddress(t)
	site := profile(t, "connect: {mqtt: {routes: [{filter: '#', topic: mqtt}]}}\n")
	run := func() *process { return daemon(t, "mqtt", "--listen", addr, "--broker", kafka.addr, "--site", site) }
	m := run()
	host, port, _ := net.SplitHostPort(addr)
	listener := start(t, py, "testdata/python/mqtt_listen.py", host, port, "q2/#", "3.1.1")
	until(t, "the listener to be subscribed", func() bool { return strings.Contains(listener.out.String(), "subscribed\n") })
	names := []string{"q1-a", "q2-a", "q2-b"}
	var devices []*process
	for _, name := range names {
		devices = append(devices, start(t, py, "testdata/python/mqtt_publish.py", host, port, name, name[:2]+"/"+name, name[1:2], strconv.Itoa(each)))
	}
	acked := func() (texts []string) {
		for _, d := range devices {
			for line := range strings.Lines(d.out.String()) {
				if text, ok := strings.CutPrefix(line, "acked "); ok {
					texts = append(texts, strings.TrimSpace(text))
				}
			}
		}
		return texts
	}
	for i := range kills {
		until(t, "progress", func() bool { return len(acked()) > (i+1)*len(names)*each/(kills+2) })
		m.kill()
		m = run()
	}
	until(t, "all devices to be done", func() bool { return len(acked()) >= len(names)*each })
	seen := map[string]int{}
	rs := records(t, kafka.addr, "mqtt", func(rs []*kgo.Record) bool {
		clear(seen)
		for _, r := range rs {
			seen[string(r.Value)]++
		}
		return len(seen) >= len(names)*each
	})
	again := 0
	for _, text := range acked() {
		n := seen[text]
		switch {
		case n == 0:
			t.Errorf("%s was acknowledged and is not in Kafka", text)
		case n > 1 && strings.HasPrefix(text, "q2"):
			t.Errorf("%s has QoS 2 and is in Kafka %d times", text, n)
		case n > 1:
			again++
		}
	}
	t.Logf("%d messages acknowledged over %d kills; %d records, %d of QoS 1 more than once", len(acked()), kills, len(rs), again)
	heard := map[string]int{}
	until(t, "the listener to have heard all", func() bool {
		clear(heard)
		for line := range strings.Lines(listener.out.String()) {
			if words := strings.Fields(line); words[0] == "message" {
				heard[words[2]]++
			}
		}
		return len(heard) >= 2*each
	})
	for text, n := range heard {
		if n > 1 {
			t.Errorf("the listener heard %s %d times", text, n)
		}
	}
}

// The client connector against mosquitto's broker, both versions, with TLS
// and a password; mosquitto is away in between.
func TestMQTTClient(t *testing.T) {
	need(t)
	for _, version := range []string{"5", "3.1.1"} {
		t.Run(version, func(t *testing.T) { testMQTTClient(t, version) })
	}
}

func testMQTTClient(t *testing.T, version string) {
	broker, pub, sub, passwd := tool(t, "mosquitto"), tool(t, "mosquitto_pub"), tool(t, "mosquitto_sub"), tool(t, "mosquitto_passwd")
	secrets := certificates(t)
	write(t, filepath.Join(secrets, "password"), "open sesame\n")
	write(t, filepath.Join(secrets, "users"), "box:open sesame\n")
	output(t, passwd, "-U", filepath.Join(secrets, "users"))
	plain, secure := connecttest.FreeAddress(t), connecttest.FreeAddress(t)
	_, plainPort, _ := net.SplitHostPort(plain)
	_, securePort, _ := net.SplitHostPort(secure)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	data := t.TempDir()
	write(t, conf, fmt.Sprintf("per_listener_settings true\npersistence true\npersistence_location %s/\nuser root\n"+
		"listener %s 127.0.0.1\nallow_anonymous true\n"+
		"listener %s 127.0.0.1\nallow_anonymous false\npassword_file %s/users\ncertfile %s/server.pem\nkeyfile %s/server.key\n",
		data, plainPort, securePort, secrets, secrets, secrets))
	far := start(t, broker, "-c", conf)
	kafka := connecttest.NewBroker(t)
	parsed, err := site.Parse("test", []byte(fmt.Sprintf(`
version: 1
site: test
connect:
  mqtt_client:
    - name: plant
      address: mqtts://localhost:%s
      version: %q
      user: box
      password: password
      tls: {ca: ca.pem}
      subscribe: [{filter: "plant/#", qos: 2}, {filter: "$share/g/jobs/#"}]
      publish: [{topic: commands, to: "cmd/{key}", qos: 1, retain: true}]
`, securePort, version)))
	if err != nil {
		t.Fatal(err)
	}
	instances, err := catalog.Instances(parsed, "")
	if err != nil {
		t.Fatal(err)
	}
	r := connecttest.Start(t, kafka.Addr, nil, secrets, instances...)
	connected := func() bool {
		return strings.HasPrefix(r.State("plant").Detail, "connected") && r.State("plant").Error == ""
	}
	until(t, "the connector to be up", connected)
	mosq := func(program string, args ...string) string {
		return output(t, program, append([]string{"-h", "127.0.0.1", "-p", plainPort}, args...)...)
	}
	for qos := range 3 {
		mosq(pub, "-q", strconv.Itoa(qos), "-t", "plant/"+strconv.Itoa(qos), "-m", "q"+strconv.Itoa(qos))
	}
	topics := map[string]string{}
	for _, rec := range kafka.Read("plant", 3) {
		topics[string(rec.Key)] = string(rec.Value)
	}
	if len(topics) != 3 || topics["plant/0"] != "q0" || topics["plant/1"] != "q1" || topics["plant/2"] != "q2" {
		t.Errorf("records are %v, want one of each QoS under its topic", topics)
	}
	kafka.Write(&kgo.Record{Topic: "commands", Key: []byte("7"), Value: []byte("open")})
	if out := mosq(sub, "-t", "cmd/#", "-C", "1", "-W", "30", "-F", "%t %p"); out != "cmd/7 open\n" {
		t.Errorf("command: mosquitto_sub printed %q", out)
	}

	// The far broker is away; meanwhile a command waits in Kafka. What is
	// published before the client is back waits in its session.
	far.stop()
	until(t, "the connector to notice", func() bool { return r.State("plant").Error != "" })
	kafka.Write(&kgo.Record{Topic: "commands", Key: []byte("8"), Value: []byte("late")})
	start(t, broker, "-c", conf)
	until(t, "mosquitto to be back", func() bool {
		return exec.Command(pub, "-h", "127.0.0.1", "-p", plainPort, "-q", "1", "-t", "plant/back", "-m", "waited").Run() == nil
	})
	if rs := kafka.Read("plant", 4); string(rs[3].Value) != "waited" {
		t.Errorf("after the outage: record %q, want waited", rs[3].Value)
	}
	if out := mosq(sub, "-t", "cmd/8", "-C", "1", "-W", "60"); out != "late\n" {
		t.Errorf("command after the outage: mosquitto_sub printed %q", out)
	}
	// `wayside connect test` is another client: the box stays where it is.
	until(t, "the connector to be up again", connected)
	restarts := r.State("plant").Restarts
	trial := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	go func() {
		trial <- frame.Try(ctx, frame.Config{Site: "test", Secrets: secrets}, instances[0], 1, func(*kgo.Record) {})
	}()
	until(t, "the trial to have a record", func() bool {
		mosq(pub, "-t", "plant/trial", "-m", "for both")
		return len(trial) > 0
	})
	if err := <-trial; err != nil {
		t.Error(err)
	}
	if !connected() || r.State("plant").Restarts != restarts {
		t.Errorf("the trial has thrown the box off: %+v", r.State("plant"))
	}
	if strings.Contains(r.Log.String(), "open sesame") {
		t.Error("the password is in the log")
	}
}
