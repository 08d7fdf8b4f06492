package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/config"
	"github.com/sealpost/sealpost/bridge/dashboard"
)

// service is an open bridge and how it is reached.
type service struct {
	bridge     *bridge.Bridge
	config     *config.Config
	configPath string
	listeners  map[string]string    // name → host:port as bound
	running    bool                 // in the daemon
	dashboard  *dashboard.Dashboard // nil: off
}

// operation is what a command does with the bridge. Its parameters and result travel as
// JSON when the daemon does it.
type operation[P, R any] struct {
	name   string
	online bool // needs the provider: outside the daemon the bridge is run meanwhile
	do     func(ctx context.Context, s *service, params P, p bridge.Progress) (R, error)
}

// handlers are all operations, for the daemon.
func handlers(s *service) http.Handler {
	mux := http.NewServeMux()
	handle(mux, s, statusOperation)
	handle(mux, s, doctorOperation)
	handle(mux, s, dashboardOperation)
	handle(mux, s, auditOperation)
	handle(mux, s, clientOperation)
	handle(mux, s, clientDeviceOperation)
	handle(mux, s, wouldSendOperation)
	handle(mux, s, sealOperation)
	handle(mux, s, unsealOperation)
	handle(mux, s, proveOperation)
	handle(mux, s, contactListOperation)
	handle(mux, s, contactFindOperation)
	handle(mux, s, contactImportOperation)
	handle(mux, s, contactShowOperation)
	handle(mux, s, contactDecideOperation)
	handle(mux, s, contactNumbersOperation)
	handle(mux, s, keyListOperation)
	handle(mux, s, keyGenerateOperation)
	handle(mux, s, keyImportOperation)
	handle(mux, s, keyExportOperation)
	handle(mux, s, keyPublishOperation)
	handle(mux, s, keyPublicationsOperation)
	handle(mux, s, keyRotateOperation)
	handle(mux, s, backupCreateOperation)
	handle(mux, s, backupDrillOperation)
	handle(mux, s, keyRevokeOperation)
	handle(mux, s, wkdExportOperation)
	handle(mux, s, searchOperation)
	handle(mux, s, exportOperation)
	handle(mux, s, exportCountOperation)
	handle(mux, s, exportMergeOperation)
	handle(mux, s, exportHandoverOperation)
	handle(mux, s, holdAddOperation)
	handle(mux, s, holdListOperation)
	handle(mux, s, holdReleaseOperation)
	handle(mux, s, outboxListOperation)
	handle(mux, s, outboxRetryOperation)
	handle(mux, s, outboxCancelOperation)
	handle(mux, s, logListOperation)
	handle(mux, s, logVerifyOperation)
	handle(mux, s, logPruneOperation)
	return mux
}

// reply is one line of the daemon's answer: progress any number of times, then a result or an error.
type reply struct {
	Progress *progressReport `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    string          `json:"error,omitempty"`
}

type progressReport struct {
	Mailbox     string
	Done, Total int
}

// maxParams bounds a request, in bytes: the largest is a key or a file of certificates.
const maxParams = 64 << 20

func handle[P, R any](mux *http.ServeMux, s *service, op operation[P, R]) {
	mux.HandleFunc("POST /"+op.name, func(w http.ResponseWriter, r *http.Request) {
		encoder := json.NewEncoder(w)
		progress := func(mailbox string, done, total int) {
			_ = encoder.Encode(reply{Progress: &progressReport{mailbox, done, total}})
			_ = http.NewResponseController(w).Flush()
		}
		var params P
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxParams)).Decode(&params)
		var result R
		if err == nil {
			result, err = op.do(r.Context(), s, params, progress)
		}
		var data []byte
		if err == nil {
			data, err = json.Marshal(result)
		}
		if err != nil {
			_ = encoder.Encode(reply{Error: withRemedy(err)})
			return
		}
		_ = encoder.Encode(reply{Result: data})
	})
}

// call does the operation: in the daemon if one runs, else in this process.
func call[P, R any](ctx context.Context, g *globals, op operation[P, R], params P) (R, error) {
	var none R
	cfg, err := g.load()
	if err != nil {
		return none, err
	}
	progress, finish := g.progress(op.name)
	defer finish()
	result, err := callDaemon(ctx, cfg.StateDir, op, params, progress)
	if !errors.Is(err, errNoDaemon) {
		return result, err
	}
	b, err := g.open(ctx, cfg, false)
	if err != nil {
		return none, err
	}
	defer b.Close()
	s := &service{bridge: b, config: cfg, configPath: g.path(), listeners: configuredListeners(cfg.Local)}
	if op.online {
		defer runMeanwhile(ctx, b)()
	}
	return op.do(ctx, s, params, progress)
}

// runMeanwhile keeps the bridge in step with its provider until stop is called.
func runMeanwhile(ctx context.Context, b *bridge.Bridge) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Run(ctx) // what goes wrong shows in the operation
	}()
	return func() {
		cancel()
		<-done
	}
}

var errNoDaemon = errors.New("no daemon runs")

func callDaemon[P, R any](ctx context.Context, stateDir string, op operation[P, R], params P, p bridge.Progress) (R, error) {
	var result R
	body, err := json.Marshal(params)
	if err != nil {
		return result, err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialControl(ctx, stateDir)
	}, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sealpost/"+op.name, bytes.NewReader(body))
	if err != nil {
		return result, err
	}
	response, err := client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return result, ctx.Err()
		}
		return result, fmt.Errorf("%w: %w", errNoDaemon, err)
	}
	defer response.Body.Close()
	return result, readReplies(response.Body, &result, p)
}

func readReplies(r io.Reader, result any, p bridge.Progress) error {
	for decoder := json.NewDecoder(r); ; {
		var line reply
		if err := decoder.Decode(&line); err != nil {
			return fmt.Errorf("the daemon ended before it answered: %w", err)
		}
		switch {
		case line.Error != "":
			return errors.New(line.Error)
		case line.Progress != nil:
			p(line.Progress.Mailbox, line.Progress.Done, line.Progress.Total)
		default:
			return json.Unmarshal(line.Result, result)
		}
	}
}

// controlSocket is the daemon's socket in the state folder, which only its owner can enter.
const controlSocket = "control.sock"

// shortSocket works around the 108 bytes a socket's path may have: the folder is named by
// its file descriptor (Linux).
func shortSocket(stateDir string) (path string, done func(), err error) {
	path = filepath.Join(stateDir, controlSocket)
	if len(path) < 100 {
		return path, func() {}, nil
	}
	dir, err := os.Open(stateDir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), controlSocket), func() { _ = dir.Close() }, nil
}

func dialControl(ctx context.Context, stateDir string) (net.Conn, error) {
	path, done, err := shortSocket(stateDir)
	if err != nil {
		return nil, err
	}
	defer done()
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
}

// listenControl opens the daemon's socket. The caller holds the state folder's lock, so that a
// socket that is there already is a leftover.
func listenControl(stateDir string) (net.Listener, error) {
	path, done, err := shortSocket(stateDir)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// The path may be gone or another's by the time of Close; a leftover is removed at the next start.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return l, os.Chmod(filepath.Join(stateDir, controlSocket), 0o600)
}
