package qemu

import (
	"bytes"
	"testing"

	"github.com/u-root/u-root/pkg/dt"
)

// TestPiTree wants the firmware's tree to say what QEMU's 4 B is short of.
func TestPiTree(t *testing.T) {
	tree := &dt.FDT{
		Header: dt.Header{Magic: dt.Magic, Version: 17, LastCompVersion: 16},
		RootNode: dt.NewNode("",
			dt.WithProperty(dt.PropertyString("compatible", "raspberrypi,4-model-b")),
			dt.WithChildren(dt.NewNode("soc", dt.WithChildren(
				dt.NewNode("watchdog@7e100000"),
				dt.NewNode("serial@7e215040", dt.WithProperty(dt.PropertyU32Array("clocks", []uint32{12, 0}))),
			)))),
	}
	var in bytes.Buffer
	if _, err := tree.Write(&in); err != nil {
		t.Fatal(err)
	}
	out, err := piMachines["raspi4b"].adapt(in.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	got, err := dt.ReadFDT(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := got.RootNode.LookProperty("compatible"); string(p.Value) != "qemu,raspi4b\x00raspberrypi,4-model-b\x00" {
		t.Errorf("compatible %q", p.Value)
	}
	node := func(name string) *dt.Node {
		n, found := got.NodeByName(name)
		if !found {
			t.Fatalf("node %s is gone", name)
		}
		return n
	}
	if p, found := node("watchdog@7e100000").LookProperty("status"); !found || string(p.Value) != "disabled\x00" {
		t.Errorf("watchdog: status %q", p)
	}
	port := node("serial@7e215040")
	if _, found := port.LookProperty("clocks"); found {
		t.Error("the serial port still has QEMU's clock")
	}
	if p, found := port.LookProperty("clock-frequency"); !found || !bytes.Equal(p.Value, []byte{0x0e, 0xe6, 0xb2, 0x80}) {
		t.Errorf("serial port: clock-frequency %x", p)
	}
}
