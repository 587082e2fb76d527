package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const modulePath = "github.com/waysideos/wayside"

// sourceDir is the root of Wayside's source tree: the folder given, or the
// module that the current folder is in.
func sourceDir(ctx context.Context, flag string) (string, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return "", fmt.Errorf("find the compiler: %v; install Go and put its bin folder on PATH", err)
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-json")
	cmd.Dir = flag
	out, err := cmd.Output()
	var m struct{ Path, Dir string }
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil || m.Path != modulePath {
		return "", fmt.Errorf("find Wayside's source: %s is not in module %s; run from its folder or give --source DIR", orHere(flag), modulePath)
	}
	return m.Dir, nil
}

func orHere(dir string) string {
	if dir == "" {
		return "this folder"
	}
	return dir
}

// linkFlags keep a program small and, from one release to the next, alike:
// no build ID, and sections that begin at multiples of 64 KiB (-R), so that
// code which grows a little does not move the data that all other code names.
// That alone takes a third off the delta of a small change.
const linkFlags = "-s -w -buildid= -R=65536"

// compileAll builds the static programs of an image for linux on goarch into
// dir, by one run of the compiler that loads what both are made of once. Of the
// host's environment only what names folders and module sources is kept, so
// that the bytes depend on source, toolchain and architecture alone.
func compileAll(ctx context.Context, source, goarch, dir string) (init, services string, err error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags="+linkFlags, "-o", dir+string(filepath.Separator), "./cmd/init", "./cmd/waysided")
	cmd.Dir = source
	// To collect its garbage this seldom saves a tenth of the compiler's time
	// after a change. The largest package then takes some 590 MB instead of 390,
	// which the link takes anyway.
	cmd.Env = append(keptEnv(), "GOGC="+cmp.Or(os.Getenv("GOGC"), "400"), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch,
		"GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return "", "", fmt.Errorf("compile init and services for linux/%s: %v\n%s", goarch, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return filepath.Join(dir, "init"), filepath.Join(dir, "waysided"), nil
}

// keptEnv is the environment without Go's own settings, but for those that
// say where caches and modules are.
func keptEnv() []string {
	keep := map[string]bool{
		"GOCACHE": true, "GOMODCACHE": true, "GOPATH": true, "GOPROXY": true, "GOSUMDB": true,
		"GONOSUMDB": true, "GONOPROXY": true, "GOPRIVATE": true, "GOROOT": true, "GOTOOLCHAIN": true,
		"GOTMPDIR": true,
	}
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "GO") && !strings.HasPrefix(name, "CGO_") || keep[name] {
			env = append(env, kv)
		}
	}
	return env
}

// compiler is compileAll under way.
type compiler struct {
	over           chan struct{} // closed when the others are set
	init, services string
	err            error
}

func startCompiler(compile func() (init, services string, err error)) *compiler {
	c := &compiler{over: make(chan struct{})}
	go func() {
		defer close(c.over)
		c.init, c.services, c.err = compile()
	}()
	return c
}

// wait is image.Builder's Compile. Whoever has found out meanwhile that there
// will be no image need not wait for the compiler to say so.
func (c *compiler) wait(ctx context.Context) (init, services string, err error) {
	select {
	case <-c.over:
		return c.init, c.services, c.err
	case <-ctx.Done():
		return "", "", ctx.Err()
	}
}
