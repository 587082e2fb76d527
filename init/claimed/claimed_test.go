package claimed

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/disktest"
	"github.com/waysideos/wayside/init/fat"
	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/services/claim"
	"github.com/waysideos/wayside/services/vfs"
)

const secretWord = "hunter2"

var (
	issued = time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
	ours   = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	owner  = fmt.Appendf(nil, `{"signed":{"keys":{"0":{"keytype":"ed25519","keyval":{"public":"%s"}}},"roles":{"%s":{"keyids":["0"],"threshold":1}}}}`,
		hex.EncodeToString(ours.Public().(ed25519.PublicKey)), claim.Role)
)

// file is a claim that was issued some hours later than others.
func file(t testing.TB, name string, later int, change func(*claim.Claim)) []byte {
	t.Helper()
	c := &claim.Claim{
		Name: name, Issued: issued.Add(time.Duration(later) * time.Hour), Expires: issued.AddDate(0, 1, 0),
		// Long enough for some clusters of the test's file system.
		Secrets: map[string][]byte{"link.password": bytes.Repeat([]byte(secretWord), 200)},
	}
	if change != nil {
		change(c)
	}
	payload, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	text, err := claim.Seal(payload, []claim.Signature{{KeyID: "0", Sig: ed25519.Sign(ours, claim.Message(payload))}})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// box is one that starts again and again.
type box struct {
	t     testing.TB
	esp   *disktest.Disk
	state *vfs.Crashable
	hold  bool
	blind error // nobody can tell which machine it is
	log   string
}

func newBox(t testing.TB) *box {
	return &box{t: t, esp: bootPartition(t), state: vfs.NewCrashable(1)}
}

// start gives the name of the claim in force, "" for none, and what a person
// sees of problems.
func (b *box) start() (name, problems string) {
	b.t.Helper()
	var log bytes.Buffer
	c := Config{
		ESP:   func(use func(d gpt.Disk, size int64) error) error { return use(b.esp, b.esp.Size) },
		Owner: owner, Now: issued, Hold: b.hold, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Hardware: func(*claim.Claim) (claim.Hardware, error) { return claim.Hardware{Serial: "C0FFEE"}, b.blind },
	}
	if b.state != nil {
		c.State = b.state
	}
	now, all := Load(c)
	problems, b.log = strings.Join(all, "\n"), log.String()
	if strings.Contains(problems+b.log, secretWord) {
		b.t.Errorf("a secret is in what is said: %s %s", problems, b.log)
	}
	if now != nil {
		name = now.Name
	}
	return name, problems
}

func (b *box) put(text []byte) {
	b.t.Helper()
	v := open(b.t, b.esp)
	if err := v.Replace("wayside", "box.claim", text, issued); err != nil {
		b.t.Fatal(err)
	}
}

// has says whether the boot partition has a file.
func (b *box) has(name string) bool {
	b.t.Helper()
	p, err := openBoot(b.esp, b.esp.Size)
	if err != nil {
		b.t.Fatal(err)
	}
	return p.has(name)
}

// leaks says whether a sector of the partition, of a file or not, begins as one
// of the first sectors of a claim does.
func (b *box) leaks(text []byte) bool {
	b.t.Helper()
	l := &leak{text: text}
	if err := b.esp.CopyTo(l); err != nil {
		b.t.Fatal(err)
	}
	return l.found
}

type leak struct {
	text  []byte
	found bool
}

func (l *leak) WriteAt(sector []byte, _ int64) (int, error) {
	for at := 0; at < 3*len(sector); at += len(sector) {
		l.found = l.found || bytes.HasPrefix(sector, l.text[at:at+100])
	}
	return len(sector), nil
}

func open(t testing.TB, d *disktest.Disk) *fat.Volume {
	t.Helper()
	v, err := fat.Open(d, d.Size)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func expect(t *testing.T, b *box, wantName, wantProblem string) {
	t.Helper()
	name, problems := b.start()
	if name != wantName || !strings.Contains(problems, wantProblem) || wantProblem == "" && problems != "" {
		t.Errorf("got %q in force and problems %q, want %q and %q", name, problems, wantName, wantProblem)
	}
}

func TestLifeOfAClaim(t *testing.T) {
	b := newBox(t)
	expect(t, b, "", "")
	first := file(t, "shop-1", 0, nil)
	b.put(first)
	expect(t, b, "shop-1", "")
	if b.has(layout.ESPClaim) || b.leaks(first) {
		t.Error("the boot partition still holds the claim, or pieces of it")
	}
	expect(t, b, "shop-1", "")
	b.put(first) // once more by hand
	expect(t, b, "shop-1", "")
	if b.has(layout.ESPClaim) {
		t.Error("the same claim stays on the boot partition")
	}

	b.put(file(t, "shop-2", 2, nil))
	expect(t, b, "shop-2", "")
	b.put(file(t, "shop-3", 1, nil))
	expect(t, b, "shop-2", "claim rejected: wayside/box.claim: it was issued 2026-11-01T09:00:00Z; the box has one for shop-2 that is as new")
	if b.has(layout.ESPClaim) || !b.has(layout.ESPRefused) {
		t.Error("a refused claim was not put aside")
	}
	expect(t, b, "shop-2", "a claim that was refused is on the boot partition, as wayside/box.refused")
	b.put([]byte("another that is refused"))
	expect(t, b, "shop-2", "claim rejected")
	b.put(file(t, "shop-4", 4, nil))
	expect(t, b, "shop-4", "")
}

// Without its state partition, or with a full one, a box has its claim all the
// same, and the boot partition keeps it.
func TestNotKept(t *testing.T) {
	text := file(t, "shop-1", 0, nil)
	for name, hurt := range map[string]func(b *box){
		"no state": func(b *box) { b.state = nil },
		"full":     func(b *box) { b.state.SetHook(vfs.FailNth(vfs.OpWrite, "site/*", 1, errors.New("no space"), true)) },
	} {
		b := newBox(t)
		hurt(b)
		b.put(text)
		expect(t, b, "shop-1", "keep the claim, which stays on the boot partition")
		if !b.has(layout.ESPClaim) {
			t.Errorf("%s: the claim is gone", name)
		}
	}
}

// While a version is on trial nothing is written, on either partition.
func TestHold(t *testing.T) {
	b := newBox(t)
	b.put(file(t, "shop-1", 0, nil))
	b.hold, b.esp.Meter = true, &disktest.Meter{}
	expect(t, b, "shop-1", "")
	if b.esp.Meter.Events > 0 || !strings.Contains(b.log, "until the version on trial is kept") {
		t.Errorf("%d writes, and the log says %q", b.esp.Meter.Events, b.log)
	}
	b.state = b.state.Crash()
	b.hold = false
	expect(t, b, "shop-1", "")
	if b.has(layout.ESPClaim) {
		t.Error("the claim was not taken over after the trial")
	}
	b.put([]byte("garbage"))
	b.hold, b.esp.Meter = true, &disktest.Meter{}
	expect(t, b, "shop-1", "claim rejected")
	if b.esp.Meter.Events > 0 {
		t.Error("a claim was put aside during a trial")
	}
}

// A claim is not refused because a driver was slow: that is for good.
func TestUnknownHardware(t *testing.T) {
	b := newBox(t)
	b.put(file(t, "shop-1", 0, nil))
	b.blind, b.esp.Meter = errors.New("drivers hang"), &disktest.Meter{}
	expect(t, b, "", "is looked at again at the next start: drivers hang")
	if b.esp.Meter.Events > 0 {
		t.Error("the boot partition was written")
	}
	b.blind = nil
	expect(t, b, "shop-1", "")
}

// Whatever is put there, the box goes on with what it had.
func TestBadClaims(t *testing.T) {
	whole := file(t, "shop-9", 9, nil)
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"garbage":      {[]byte("garbage"), "is no claim"},
		"zeros":        {make([]byte, 100), ""}, // what a pulled stick leaves; nothing is in it
		"half":         {whole[:len(whole)/2], "damaged"},
		"too large":    {append(bytes.Clone(whole), bytes.Repeat([]byte(" "), claim.MaxSize)...), "more than 1048576 bytes"},
		"another key":  {bytes.Replace(whole, []byte(`"keyid":"0"`), []byte(`"keyid":"1"`), 1), "not signed by the owner"},
		"another box":  {file(t, "shop-9", 9, func(c *claim.Claim) { c.Serial = "BEEF" }), "serial number"},
		"long expired": {file(t, "shop-9", -2000, func(c *claim.Claim) { c.Expires = issued.Add(-time.Hour) }), "the box has one for"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.put(file(t, "shop-1", 0, nil))
			expect(t, b, "shop-1", "")
			b.put(c.text)
			if expect(t, b, "shop-1", c.want); b.has(layout.ESPClaim) || b.has(layout.ESPRefused) != (c.want != "") {
				t.Error("it was not put aside, or a file of zeros was")
			}
			b = newBox(t)
			b.put(c.text)
			if got, problems := b.start(); got != "" || !strings.Contains(problems, "claim rejected: ") {
				t.Errorf("a box without a claim: got %q in force, %q", got, problems)
			}
		})
	}
	b := newBox(t)
	b.put(file(t, "shop-9", -2000, func(c *claim.Claim) { c.Expires = issued.Add(-time.Hour) }))
	expect(t, b, "", "it expired 2026-11-01 07:00")
}

func TestDamagedKept(t *testing.T) {
	for _, text := range []string{"", "null", secretWord, `{"payloadType":"` + secretWord + `"}`, strings.Repeat("x", claim.MaxSize+2)} {
		b := newBox(t)
		if err := keep(b.state, []byte(text)); err != nil {
			t.Fatal(err)
		}
		expect(t, b, "", "the claim that was taken over is passed over")
		b.put(file(t, "shop-1", 0, nil))
		b.start()
		expect(t, b, "shop-1", "")
	}
}

// Whenever the power goes, the claim is on the boot partition or taken over,
// whole; a refused one is there under one name or the other; and the start
// after that ends as an undisturbed one does.
func TestPowerCuts(t *testing.T) {
	old, next, refused := file(t, "shop-1", 0, nil), file(t, "shop-2", 1, nil), file(t, "shop-9", -1, nil)
	for name, c := range map[string]struct {
		text []byte
		want string
	}{"first": {next, "shop-2"}, "second": {next, "shop-2"}, "refused": {refused, "shop-1"}} {
		for _, lies := range []bool{false, true} {
			if lies && name != "refused" {
				continue // what is on the state partition is right whatever this disk does
			}
			broken, seeds := 0, uint64(4)
			if lies {
				seeds = 12 // not every cut shows
			}
			base := newBox(t)
			if name != "first" {
				base.put(old)
				base.start()
			}
			if name == "refused" { // one was before
				base.put(bytes.Repeat([]byte("r"), 3000))
				base.start()
			}
			base.put(c.text)
			base.state = base.state.Crash()
			for cut := 1; ; cut++ {
				whole := false
				for seed := range seeds {
					b := &box{t: t, esp: base.esp.Clone(), state: base.state.CrashClone()}
					meter := &disktest.Meter{CutAt: cut}
					b.esp.Meter, b.esp.Lies = meter, lies
					b.state.SetHook(func(vfs.Op, string) error { return meter.Tick() })
					b.start()
					whole = !meter.Cut()
					b.state.SetHook(nil)
					b.esp, b.state = b.esp.After(rand.New(rand.NewPCG(seed, uint64(cut)))), b.state.Crash()
					if why := judge(b, c.want, c.text); why != "" {
						broken++
						if !lies {
							t.Errorf("%s: cut at event %d, seed %d: %s", name, cut, seed, why)
						}
					}
				}
				if whole {
					break
				}
			}
			if lies && broken == 0 {
				t.Errorf("%s: nothing breaks on a disk that never flushes: the test would not notice a missing flush", name)
			}
		}
	}
}

// judge starts a box after the power came back.
func judge(b *box, want string, text []byte) string {
	if got, problems := b.start(); got != want {
		return fmt.Sprintf("%q is in force, want %q; %s", got, want, problems)
	}
	// Once more: what was put right stays so.
	if got, problems := b.start(); got != want {
		return fmt.Sprintf("after another start %q is in force, want %q; %s", got, want, problems)
	}
	switch taken := want != "shop-1"; {
	case b.has(layout.ESPClaim):
		return "it is still on the boot partition"
	case taken && b.leaks(text):
		return "pieces of it are still on the boot partition"
	case taken == b.has(layout.ESPRefused):
		return "it is not where it belongs"
	case !taken && !b.leaks(text):
		return "the refused claim is lost"
	}
	return ""
}

var made struct {
	sync.Once
	disk *disktest.Disk
	err  error
}

// bootPartition has foreign tools make one.
func bootPartition(t testing.TB) *disktest.Disk {
	t.Helper()
	made.Do(func() { made.disk, made.err = makeFAT(t.TempDir()) })
	if made.err != nil {
		t.Fatalf("make a FAT32: %v; is `go run ./cmd/wayside host setup --for test` done?", made.err)
	}
	return made.disk.Clone()
}

func makeFAT(dir string) (*disktest.Disk, error) {
	file := filepath.Join(dir, "fat")
	return disktest.Foreign(file, []string{"mkfs.vfat", "-F", "32", "-s", "1", "-C", file, "34000"}, []string{"mmd", "-i", file, "::wayside"})
}
