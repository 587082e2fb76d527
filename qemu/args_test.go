package qemu

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/boards"
)

var update = flag.Bool("update", false, "write the golden files")

func argsConfig() Config {
	return Config{
		Board: boards.Board{Slug: "qemu_x86_64", QEMU: &boards.QEMU{
			System: "x86_64", Machine: "q35", CPU: "max", MemoryMiB: 512, SMP: 2,
			Disk: "virtio-blk-pci", NIC: "virtio-net-pci", Watchdog: "i6300esb", TPM: "tpm-crb",
		}},
		Image:    "/images/box.img",
		Firmware: Firmware{Code: "/fw/OVMF_CODE_4M.fd", Vars: "/fw/OVMF_VARS_4M.fd", SecureCode: "/fw/secure.fd"},
		Work:     "/vm",
		Accel:    "tcg",
	}
}

func TestTPMOfNoUse(t *testing.T) {
	c := argsConfig()
	c.TPM, c.Board.QEMU.TPM = true, ""
	if _, err := c.Args(); err == nil || !strings.Contains(err.Error(), "qemu.tpm") {
		t.Errorf("got %v, want an error that names what the board lacks", err)
	}
}

// TestArgs compares command lines with testdata/args/*.golden, one option a
// line.
func TestArgs(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"minimal": func(*Config) {},
		"kvm":     func(c *Config) { c.Accel = "kvm" },
		"forwards": func(c *Config) {
			c.Forwards = []Forward{
				{Name: "kafka", Host: "127.0.0.1:9092", Guest: 9092},
				{Name: "console", Host: "127.0.0.1:8080", Guest: 8080},
			}
			c.Advertised = "kafka"
			c.FWCfg = map[string]string{"opt/b": "1,2", "opt/a": "x"}
		},
		"copy":       func(c *Config) { c.Disk = DiskCopy; c.DiskFile = "/disks/kept, really.raw" },
		"log":        func(c *Config) { c.Disk = DiskCopy; c.WriteLog = "/tmp/a,b.log" },
		"secureboot": func(c *Config) { c.SecureBoot, c.TPM = &SecureBoot{}, true },
		"secureboot-arm64": func(c *Config) {
			board := *c.Board.QEMU
			board.System, board.Machine, board.CPU = "aarch64", "virt", "cortex-a72"
			c.Board.QEMU, c.SecureBoot = &board, &SecureBoot{}
		},
		"dropping": func(c *Config) { c.Disk = DiskDropping },
		"pi": func(c *Config) {
			c.Board.Slug, c.Firmware = "raspberry-pi", Firmware{}
			c.Board.QEMU = &boards.QEMU{System: "aarch64", Machine: "raspi3b", Plays: boards.PlaysPi, MemoryMiB: 1024, SMP: 4, NIC: "usb-net"}
		},
		"more": func(c *Config) {
			c.MemoryMiB, c.SMP = 1024, 4
			c.Firmware.Vars = ""
			board := *c.Board.QEMU
			board.Watchdog, board.Extra = "", []string{"-boot", "menu=on,splash-time=0"}
			c.Board.QEMU = &board
			c.Extra, c.Isolated = []string{"-no-reboot"}, true
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := argsConfig()
			change(&c)
			args, err := c.Args()
			if err != nil {
				t.Fatal(err)
			}
			got := strings.ReplaceAll(strings.Join(args, " "), " -", "\n-") + "\n"
			golden := filepath.Join("testdata", "args", name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("command line (-want +got):\n%s", diff)
			}
		})
	}
}

func TestArgsRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no qemu section": {func(c *Config) { c.Board.QEMU = nil }, "no qemu section"},
		"no image":        {func(c *Config) { c.Image = "" }, "no image"},
		"open accel":      {func(c *Config) { c.Accel = "auto" }, "needs kvm or tcg"},
		"kept overlay":    {func(c *Config) { c.DiskFile = "/kept" }, "dies with its image"},
		"unknown forward": {func(c *Config) { c.Advertised = "kafka" }, `no forward is called "kafka"`},
		"bad host":        {func(c *Config) { c.Forwards = []Forward{{Name: "mqtt", Host: "1883"}} }, "not host:port"},
		"no memory":       {func(c *Config) { c.Board.QEMU = &boards.QEMU{} }, "above zero"},
	} {
		t.Run(name, func(t *testing.T) {
			c := argsConfig()
			tt.change(&c)
			if _, err := c.Args(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}
