//go:build linux

package pid1

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/dm"
	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/init/seal"
	"github.com/waysideos/wayside/init/trust"
	"github.com/waysideos/wayside/init/vault"
)

const (
	tpmNode = "/dev/tpmrm0"
	// The stub unpacks the sections .pcrpkey and .pcrsig of the kernel image
	// there, in the initramfs; policyDir takes them into the root.
	stubExtra      = "/.extra"
	stubKey        = "tpm2-pcr-public-key.pem"
	stubSignatures = "tpm2-pcr-signature.json"
	policyDir      = "/run/wayside-policy"
	maxPolicy      = 64 << 10
)

// keepPolicy carries what the stub left in the initramfs into the root.
func keepPolicy(context.Context, *Machine) error {
	if err := os.MkdirAll(policyDir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{stubKey, stubSignatures} {
		data, err := readAtMost(filepath.Join(stubExtra, name), maxPolicy)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an image without, or a start without its stub
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(policyDir, name), data, 0o600)
		}
		if err != nil {
			return fmt.Errorf("keep the policy of the kernel image: %w", err)
		}
	}
	return nil
}

// openVault gathers what the partitions are opened with. What is missing shows
// when it is needed.
func openVault(ctx context.Context, m *Machine) error {
	if m.cmd[layout.CmdEncrypt] == "tpm" { // whose driver may be a module
		if err := m.devices.wait(ctx); err != nil {
			return err
		}
	}
	c := vault.Config{
		Wanted: m.cmd[layout.CmdEncrypt] == "tpm", SecureBoot: m.secureBoot == trust.On,
		Typed: m.typedRecovery, Random: rand.Reader, Log: m.Log(),
	}
	var policyErr error
	c.Policy, policyErr = readPolicy()
	tpm, tpmErr := openTPM()
	c.TPM = tpm
	m.vault = vault.New(c)
	if !c.Wanted {
		return nil
	}
	return errors.Join(policyErr, tpmErr)
}

// openTPM returns nil where there is no TPM.
func openTPM() (transport.TPM, error) {
	f, err := os.OpenFile(tpmNode, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the TPM: %w", err)
	}
	return transport.FromReadWriter(f), nil // open as long as this process lives
}

func readPolicy() (seal.Policy, error) {
	key, err := os.ReadFile(filepath.Join(policyDir, stubKey))
	if err != nil {
		return seal.Policy{}, err
	}
	signatures, err := os.ReadFile(filepath.Join(policyDir, stubSignatures))
	if err != nil {
		return seal.Policy{}, err
	}
	return seal.ParsePolicy(key, signatures)
}

// typedRecovery is the recovery key on the boot partition, "" if there is none.
func (m *Machine) typedRecovery() (text string, err error) {
	err = m.withESP(func(dir string) error {
		b, err := readAtMost(filepath.Join(dir, filepath.FromSlash(layout.ESPRecovery)), 256)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		text = string(b)
		return err
	})
	return text, err
}

// decrypted is the node that a partition's file system is on: its own, or that
// of the decrypted volume.
func (m *Machine) decrypted(role layout.Role, node string) (string, error) {
	if m.vault == nil {
		return "", fmt.Errorf("%s: the step that opens partitions failed", role)
	}
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", role, err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", fmt.Errorf("measure %s: %w", role, err)
	}
	key, err := m.vault.Open(role, f, size)
	m.encryption = m.vault.How()
	if err != nil || key == nil {
		return node, err
	}
	defer clear(key)
	if err := m.loadProcessors(m.background); err != nil {
		m.problem(err.Error())
	}
	device, err := dm.Number(node)
	if err != nil {
		return "", err
	}
	sectors := uint64(size-vault.DataOffset) / gpt.Sector
	return dm.Create("wayside-"+string(role), dm.Table{Kind: "crypt", Sectors: sectors, Params: vault.Table(key, device)})
}

// keepRecovery shows the recovery key of a box that has just been encrypted:
// to whoever is at its screen or serial line, and not to the kernel's log.
func keepRecovery(_ context.Context, m *Machine) error {
	if m.vault == nil || !m.state {
		return nil
	}
	fresh, err := m.vault.Keep(m.stateFS())
	if err != nil || fresh == "" {
		return err
	}
	text := fmt.Sprintf("\r\n\r\nwayside: RECOVERY KEY of this box: %s\r\n"+
		"wayside: write it down: it opens the box's data when the TPM does not, and is not shown again\r\n\r\n", fresh)
	for _, console := range []string{"/dev/console", "/dev/tty0"} {
		if f, err := os.OpenFile(console, os.O_WRONLY, 0); err == nil { // the same one, on many machines
			_, _ = f.WriteString(text)
			f.Close()
		}
	}
	return nil
}

// closeVault ends the time in which the TPM gives keys.
func closeVault(_ context.Context, m *Machine) error {
	if m.vault == nil {
		return nil
	}
	for _, p := range m.vault.Problems() {
		m.problem(p)
	}
	return m.vault.Close()
}
