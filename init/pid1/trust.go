//go:build linux

package pid1

import (
	"context"
	"encoding/hex"
	"errors"
	"os"

	"github.com/waysideos/wayside/init/mount"
	"github.com/waysideos/wayside/init/trust"
)

// measured are the registers that are shown: what was started, what Secure
// Boot was asked to accept, and the kernel image (UAPI group, Linux TPM PCR
// Registry).
var measured = []int{4, 7, 11}

// readTrust asks firmware and TPM what they make of this boot.
func readTrust(_ context.Context, m *Machine) error {
	secure, err := trust.SecureBoot(os.DirFS(mount.EFIVars))
	m.secureBoot = secure
	if secure != trust.None {
		m.Log().Info("secure boot " + secure)
	}
	m.pcrs = map[int]string{}
	for _, n := range measured {
		value, pcrErr := trust.PCR(os.DirFS("/sys"), n)
		err = errors.Join(err, pcrErr)
		if value != nil {
			m.pcrs[n] = hex.EncodeToString(value)
		}
	}
	return err
}
