package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// background is a `sealpost run` of a script; its output goes to NAME.out and NAME.err.
type background struct {
	process *exec.Cmd
	done    chan struct{}
}

func (w *world) killAll() {
	for _, b := range w.daemons {
		_ = b.process.Process.Kill()
		<-b.done
	}
}

// environment is what a daemon gets: the names that scripts set.
func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{
		"PATH", "HOME", "TMPDIR", "GORACE", "GOCOVERDIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "SEALPOST_CONFIG", "SEALPOST_LOG", "SEALPOST_PASSPHRASE_FILE",
	} {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// daemon NAME: starts `sealpost run` and waits for its line ready.
func startDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: daemon NAME")
	}
	name := args[0]
	path, err := exec.LookPath("sealpost")
	ts.Check(err)
	b := &background{process: exec.Command(path, "run"), done: make(chan struct{})}
	b.process.Env, b.process.Dir = environment(ts), ts.MkAbs(".")
	stdout, err := os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	stderr, err := os.Create(ts.MkAbs(name + ".err"))
	ts.Check(err)
	b.process.Stdout, b.process.Stderr = stdout, stderr
	ts.Check(b.process.Start())
	worldOf(ts).daemons[name] = b
	go func() {
		_ = b.process.Wait()
		_, _ = stdout.Close(), stderr.Close()
		close(b.done)
	}()
	poll(ts, func() bool {
		select {
		case <-b.done:
			ts.Fatalf("it ended: %s", ts.ReadFile(ts.MkAbs(name+".err")))
		default:
		}
		return strings.HasSuffix(ts.ReadFile(ts.MkAbs(name+".out")), "\nready\n")
	})
}

func daemonOf(ts *testscript.TestScript, name string) *background {
	b := worldOf(ts).daemons[name]
	if b == nil {
		ts.Fatalf("no daemon is called %s", name)
	}
	return b
}

// signal NAME TERM|HUP|KILL
func signalDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal NAME TERM|HUP|KILL")
	}
	signal := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}[args[1]]
	ts.Check(daemonOf(ts, args[0]).process.Process.Signal(signal))
}

// ended NAME CODE: waits for its end; -1 is a signal.
func daemonEnded(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ended NAME CODE")
	}
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	b := daemonOf(ts, args[0])
	poll(ts, func() bool {
		select {
		case <-b.done:
			return true
		default:
			return false
		}
	})
	if code := b.process.ProcessState.ExitCode(); code != want {
		ts.Check(errors.New("exit code " + strconv.Itoa(code) + ": " + ts.ReadFile(ts.MkAbs(args[0]+".err"))))
	}
	delete(worldOf(ts).daemons, args[0])
}
