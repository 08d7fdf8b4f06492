// Command sealpost is a local encrypted mail bridge: an ordinary mail client on one side, an
// ordinary provider on the other, and only ciphertext at the provider.
//
// One file for each command. What a command does with the bridge is an operation (see
// control.go): it runs in the daemon if one runs, else in this process.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/config"
)

// Exit codes, the same for every command.
const (
	exitDone      = 0
	exitFailed    = 1
	exitUsage     = 2
	exitAttention = 3 // done, but something needs attention
)

// errAttention ends a command with exitAttention; what needs attention has been printed.
var errAttention = errors.New("something needs attention")

// errPrinted ends a command with exitFailed; why has been printed.
var errPrinted = errors.New("failed")

type cli struct {
	Config  string           `help:"Configuration file (default: ${config})." placeholder:"FILE"`
	Version kong.VersionFlag `help:"Print the version."`

	Demo      demoCmd      `cmd:"" help:"Try it without an account: a provider, two users and their bridges in one process."`
	Init      initCmd      `cmd:"" help:"Make the configuration, or add an account to it."`
	Run       runCmd       `cmd:"" help:"Run the daemon."`
	Status    statusCmd    `cmd:"" help:"Show what runs and what is wrong."`
	Doctor    doctorCmd    `cmd:"" help:"Look for everything that can go wrong, and say what to do."`
	Client    clientCmd    `cmd:"" help:"Show the settings for a mail client."`
	Key       keyCmd       `cmd:"" help:"Your own keys."`
	Contact   contactCmd   `cmd:"" help:"Certificates of the people you write to."`
	WouldSend wouldSendCmd `cmd:"" help:"Show for each recipient what would happen to a message, without sending it."`
	Backup    backupCmd    `cmd:"" help:"Backups of keys, contacts and configuration."`
	Seal      sealCmd      `cmd:"" help:"Encrypt clear mail that is already at the provider."`
	Unseal    unsealCmd    `cmd:"" help:"Put the original bytes of sealed mail back."`
	Prove     proveCmd     `cmd:"" help:"Fetch what the provider really stores and report what is readable there."`
	Search    searchCmd    `cmd:"" help:"Find messages by what they say once decrypted."`
	Export    exportCmd    `cmd:"" help:"Export mail so that others can check it: legal discovery."`
	Hold      holdCmd      `cmd:"" help:"Legal holds: what matches and is deleted stays on this device."`
	Audit     auditCmd     `cmd:"" help:"Show how your communication as a whole is protected, and where it is not."`
	WKD       wkdCmd       `cmd:"" name:"wkd" help:"Publish certificates."`
	Outbox    outboxCmd    `cmd:"" help:"Messages that still have to reach somebody."`
	Log       logCmd       `cmd:"" help:"The log of decisions."`
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the process.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	parser, err := newParser(&c, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "sealpost:", err)
		return exitFailed
	}
	command, err := parser.Parse(withDefaults(args))
	if err != nil {
		fmt.Fprintf(stderr, "sealpost: %s; see sealpost --help\n", oneLine(err.Error()))
		return exitUsage
	}
	g := &globals{configPath: c.Config, stdout: stdout, stderr: stderr}
	command.BindTo(ctx, (*context.Context)(nil))
	return exitCode(command.Run(g), stderr)
}

func newParser(c *cli, stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(c, kong.Name("sealpost"), kong.Writers(stdout, stderr),
		kong.Description("A local encrypted mail bridge: your mail client at localhost, ciphertext at the provider.\n\nExample:\n\n    sealpost demo"),
		kong.Vars{"version": version(), "config": "$SEALPOST_CONFIG or ~/.config/sealpost/config.toml"},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
}

// withDefaults completes a bare --generate-key: kong knows no flag whose value may be left out.
func withDefaults(args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		switch arg {
		case "--":
			return args
		case "--generate-key":
			args[i] = "--generate-key=" + string(bridge.ProfileCompatible)
		}
	}
	return args
}

func exitCode(err error, stderr io.Writer) int {
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errAttention):
		return exitAttention
	case errors.Is(err, errUsage):
		fmt.Fprintln(stderr, "sealpost:", oneLine(err.Error()))
		return exitUsage
	case errors.Is(err, errPrinted):
		return exitFailed
	}
	printFailure(stderr, err)
	return exitFailed
}

// printFailure prints one line, or one for each problem of the configuration.
func printFailure(stderr io.Writer, err error) {
	var problems config.Problems
	if !errors.As(err, &problems) {
		fmt.Fprintln(stderr, "sealpost:", oneLine(withRemedy(err)))
		return
	}
	for _, problem := range problems {
		fmt.Fprintln(stderr, "sealpost:", oneLine(problem.Error()))
	}
}

// oneLine joins the lines of an error (errors.Join makes them), so that it is one where it is printed.
func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(lines, "; ")
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "development"
}
