package bootbench

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// spent is where the time until the broker answered went, by init's own line on
// it (init/pid1/spent.go): seconds, all but elapsed of the processors, by name.
type spent map[string]float64

// parts of the processors' time, in the order of the table.
var parts = []struct{ name, title string }{
	{"init_user", "init, user"},
	{"modules", "kernel for init: modules"},
	{"init_rest", "kernel for init: else"},
	{"service_user", "broker, user"},
	{"service_kernel", "kernel for the broker"},
	{"others", "kernel's threads, others"},
	{"idle", "idle"},
}

var (
	spentLine = regexp.MustCompile(`spent until broker was ready:([^\r\n]*)`)
	pair      = regexp.MustCompile(`([a-z_]+)=([0-9.-]+)`)
	listed    = regexp.MustCompile(`spent on (steps|modules):([^\r\n]*)`)
)

// readSpent takes it out of what one boot printed, with the steps and modules
// that took longest.
func readSpent(console string) (spent, map[string]string, error) {
	line := spentLine.FindStringSubmatch(console)
	if line == nil {
		return nil, nil, fmt.Errorf("the console does not say what was spent until the broker was ready")
	}
	s := spent{}
	for _, m := range pair.FindAllStringSubmatch(line[1], -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return nil, nil, fmt.Errorf("%q: %v", m[0], err)
		}
		s[m[1]] = v
	}
	s["modules"] = s["of_it_modules"]
	s["init_rest"] = s["init_kernel"] - s["modules"]
	lists := map[string]string{}
	for _, m := range listed.FindAllStringSubmatch(console, -1) {
		lists[m[1]] = strings.TrimSpace(m[2])
	}
	return s, lists, nil
}

// ours is what the user space that is ours took of the processors.
func (s spent) ours() float64 { return s["init_user"] + s["service_user"] }

func TestReadSpent(t *testing.T) {
	const text = "[    9.0] wayside: ready uptime=9.0s\r\n[    9.1] wayside: spent until broker was ready: elapsed=3.50 processors=2 idle=1.00 init_user=0.40 init_kernel=2.50 of_it_modules=1.50 service_user=0.30 service_kernel=0.70 others=2.10 init_faults=1 service_faults=90\r\n" +
		"[    9.1] wayside: spent on steps: partitions=0.12\r\n[    9.1] wayside: spent on modules: ext4=0.20 fat=0.02\r\n"
	s, lists, err := readSpent(text)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, p := range parts {
		sum += s[p.name]
	}
	if got, want := fmt.Sprintf("%.2f %.2f %.2f", sum, s.ours(), s["init_rest"]), "7.00 0.70 1.00"; got != want {
		t.Errorf("sum, ours, rest of init: got %s, want %s", got, want)
	}
	if lists["steps"] != "partitions=0.12" || lists["modules"] != "ext4=0.20 fat=0.02" {
		t.Errorf("got %q", lists)
	}
	if _, _, err := readSpent("wayside: ready"); err == nil {
		t.Error("a boot that does not say is read")
	}
}

// split writes where the time went.
func split(w *strings.Builder, rows []row) {
	w.WriteString("\n## Where the time until the broker answers goes\n\nSeconds from init's first instruction. *elapsed* is what passes; the others are of the processors, all of them together, and add up to elapsed times their number: what the kernel does for init (loading modules: signatures, relocation, probing; else: mounts, page faults, system calls), for the broker (its start, page faults), and by itself (dm-verity's hashing, the disk). **ours** is user space of init and broker.\n\n| board | boot | elapsed |")
	for _, p := range parts {
		fmt.Fprintf(w, " %s |", p.title)
	}
	w.WriteString(" **ours** | pages waited for |\n|---|---|---|" + strings.Repeat("---|", len(parts)+2) + "\n")
	each := func(do func(r row, name string, b boot)) {
		for _, r := range rows {
			if r.playable {
				do(r, "first", r.first)
				do(r, "second", r.again)
			}
		}
	}
	each(func(r row, name string, b boot) {
		fmt.Fprintf(w, "| %s | %s | %.2f |", r.board, name, b.spent["elapsed"])
		for _, p := range parts {
			fmt.Fprintf(w, " %.2f |", b.spent[p.name])
		}
		fmt.Fprintf(w, " **%.2f** | %.0f |\n", b.spent.ours(), b.spent["init_faults"]+b.spent["service_faults"])
	})
	each(func(r row, name string, b boot) {
		fmt.Fprintf(w, "\n%s, %s boot, what took 0.01 s or more. Steps (elapsed; *beside* goes on meanwhile): %s. Modules (of a processor): %s.\n", r.board, name, b.lists["steps"], b.lists["modules"])
	})
}
