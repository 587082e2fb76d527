package qemu

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// startTPM starts swtpm for one run of QEMU and returns the end that QEMU
// gets. It ends by itself when QEMU lets go of the connection; done is closed
// then.
func startTPM(c Config) (qemuEnd *os.File, done <-chan struct{}, err error) {
	path, err := lookPath("swtpm")
	if err != nil {
		return nil, nil, fmt.Errorf("start a TPM: swtpm is not installed; type: go run ./cmd/wayside host setup --for test")
	}
	state := filepath.Join(c.Work, TPMState)
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, nil, fmt.Errorf("start a TPM: %w", err)
	}
	qemuEnd, tpmEnd, err := filePair()
	if err != nil {
		return nil, nil, fmt.Errorf("start a TPM: %v", err)
	}
	defer tpmEnd.Close()
	cmd := exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+state,
		"--ctrl", "type=unixio,clientfd=3", "--terminate", "--log", "file="+filepath.Join(c.Work, "tpm.log"))
	cmd.ExtraFiles = []*os.File{tpmEnd}
	cmd.SysProcAttr = dieWithParent()
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // as process.run, for the parent-death signal
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // what goes wrong with it, QEMU says
		}
	}()
	if err := <-started; err != nil {
		qemuEnd.Close()
		return nil, nil, fmt.Errorf("start %s: %v", path, err)
	}
	return qemuEnd, ended, nil
}
