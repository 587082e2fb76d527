package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/waysideos/wayside/image/debian"
)

// hostOptions is what `wayside host` is asked for.
type hostOptions struct {
	purpose string
	json    bool
	dryRun  bool
}

func newHostCmd() *cobra.Command {
	var o hostOptions
	cmd := &cobra.Command{
		Use:   "host",
		Short: "Check and install the tools that Wayside calls on this machine",
		Example: `  wayside host check --for test        which tools are here, which are missing
  wayside host setup                   install what "wayside run" needs
  wayside host setup --dry-run         only say what would be done`,
	}
	check := &cobra.Command{
		Use:   "check",
		Short: "Say which tools are here; fails when one is missing or too old",
		Example: `  wayside host check
  wayside host check --for test --json`,
		Args: flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.check(cmd.Context(), cmd.OutOrStdout())
		},
	}
	setup := &cobra.Command{
		Use:   "setup",
		Short: "Install what is missing or too old",
		Long: `Installs what is missing or too old with apt-get, as root or by sudo. Where
neither is to be had, it prints the one line to type on standard output (with
--json, on standard error). When everything is there it does nothing.`,
		Example: `  wayside host setup
  wayside host setup --for test --dry-run`,
		Args: flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.setup(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	for _, c := range []*cobra.Command{check, setup} {
		c.Flags().StringVar(&o.purpose, "for", "run", "what the tools are for: `run|test`")
		complete(c, "for", "run", "test")
		c.Flags().BoolVar(&o.json, "json", false, "print the tools as JSON, one object a line")
	}
	setup.Flags().BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do nothing")
	return group(cmd, check, setup)
}

// tools looks at the tools for the purpose.
func (o hostOptions) tools(ctx context.Context) ([]toolStatus, error) {
	if o.purpose != "run" && o.purpose != "test" {
		return nil, fmt.Errorf("--for %q: it is run or test", o.purpose)
	}
	return checkTools(ctx, neededTools(o.purpose)), nil
}

func (o hostOptions) check(ctx context.Context, out io.Writer) error {
	tools, err := o.tools(ctx)
	if err != nil {
		return err
	}
	o.print(out, tools)
	if lacking := lackingTools(tools); lacking != "" {
		return fmt.Errorf("%s; type: go run ./cmd/wayside host setup --for %s", lacking, o.purpose)
	}
	return nil
}

func (o hostOptions) setup(ctx context.Context, out, log io.Writer) error {
	tools, err := o.tools(ctx)
	if err != nil {
		return err
	}
	if lacking := lackingTools(tools); lacking != "" {
		fmt.Fprintln(log, lacking)
		line := out
		if o.json { // objects and nothing else there
			line = log
		}
		done, err := o.install(ctx, tools, line, log)
		if !done && o.json {
			o.print(out, tools)
		}
		if err != nil || !done {
			return err
		}
		if tools, err = o.tools(ctx); err != nil {
			return err
		}
	}
	if o.json {
		o.print(out, tools)
	}
	if lacking := lackingTools(tools); lacking != "" {
		return fmt.Errorf("after the installation: %s", lacking)
	}
	return nil
}

// install plans and does what is to be done. What it may not do, or is not to
// do, it prints on line as one line for a shell, and done is false.
func (o hostOptions) install(ctx context.Context, tools []toolStatus, line, log io.Writer) (done bool, err error) {
	if findTool("apt-get") == "" {
		return false, fmt.Errorf("there is no apt-get on this machine; install with its own package manager: %s", wanted(tools))
	}
	root := os.DirFS("/")
	facts := aptFacts{OS: readHostOS(root), Suites: readSuites(root), Candidates: aptCandidates(ctx, tools)}
	facts.Mirror, facts.MirrorErr = debian.FindMirror(os.Getenv("WAYSIDE_MIRROR"), os.Getenv("WAYSIDE_SECURITY_MIRROR"), root)
	steps, err := plan(tools, facts)
	if err != nil {
		return false, err
	}
	sudo, ok := privilege(ctx)
	if o.dryRun {
		fmt.Fprintln(line, shellLine(steps, sudo))
		return false, nil
	}
	if !ok {
		where := ""
		if len(sudo) == 0 {
			where = " in a root shell"
		}
		fmt.Fprintf(log, "installing needs root; type%s:\n", where)
		fmt.Fprintln(line, shellLine(steps, sudo))
		return false, exitCode(1)
	}
	for _, s := range steps {
		if err := s.do(ctx, sudo, log); err != nil && !s.MayFail {
			return false, err
		}
	}
	return true, nil
}

// privilege says what to put before a command that needs root, and whether
// that will work here and now.
func privilege(ctx context.Context) (prefix []string, ok bool) {
	if os.Geteuid() == 0 {
		return nil, true
	}
	if findTool("sudo") == "" {
		return nil, false // the line is for a root shell then
	}
	if exec.CommandContext(ctx, "sudo", "-n", "true").Run() == nil {
		return []string{"sudo", "-n"}, true
	}
	return []string{"sudo"}, term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd()))
}

// do runs a step. What apt prints goes to log.
func (s setupStep) do(ctx context.Context, sudo []string, log io.Writer) error {
	args := s.Args
	if s.Write != "" {
		args = []string{"tee", s.Write}
	}
	args = append(sudo[:len(sudo):len(sudo)], args...)
	fmt.Fprintln(log, "+", shellQuote(args))
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Stdin = log, log, os.Stdin
	if s.Write != "" {
		cmd.Stdout, cmd.Stdin = nil, strings.NewReader(s.Content)
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %v", shellQuote(args), err)
	}
	return nil
}

// shellLine is all the steps as one line for a shell.
func shellLine(steps []setupStep, sudo []string) string {
	if len(sudo) > 1 {
		sudo = sudo[:1] // a person can answer sudo's question
	}
	var b strings.Builder
	for i, s := range steps {
		if i > 0 {
			b.WriteString(map[bool]string{true: " ; ", false: " && "}[steps[i-1].MayFail])
		}
		if s.Write != "" {
			args := append(sudo[:len(sudo):len(sudo)], "tee", s.Write)
			fmt.Fprintf(&b, "printf %%b %s | %s >/dev/null", quote(strings.ReplaceAll(s.Content, "\n", `\n`)), shellQuote(args))
			continue
		}
		b.WriteString(shellQuote(append(sudo[:len(sudo):len(sudo)], s.Args...)))
	}
	return b.String()
}

func shellQuote(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = quote(a)
	}
	return strings.Join(quoted, " ")
}

func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// lackingTools says in a line what is missing or too old, "" if nothing is.
func lackingTools(tools []toolStatus) string {
	var parts []string
	for _, s := range tools {
		switch s.State {
		case "missing":
			parts = append(parts, s.Tool+" is missing")
		case "too old":
			parts = append(parts, fmt.Sprintf("%s %s is too old, %d or later is needed", s.Path, s.Version, s.Need))
		}
	}
	return strings.Join(parts, "; ")
}

// wanted lists what is lacking with the versions needed.
func wanted(tools []toolStatus) string {
	var parts []string
	for _, s := range tools {
		if s.State == "ok" {
			continue
		}
		name := s.Tool
		if s.Need > 0 {
			name += fmt.Sprintf(" (%d or later)", s.Need)
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ", ")
}

func (o hostOptions) print(out io.Writer, tools []toolStatus) {
	if o.json {
		enc := json.NewEncoder(out)
		for _, s := range tools {
			enc.Encode(s)
		}
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range tools {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.State, s.Tool, s.Version, s.Path)
	}
	w.Flush()
}
