package export

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha512" // TSAs sign with it
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	tsp "github.com/notaryproject/tspclient-go"
)

// A time-stamping authority (RFC 3161) can say that the signed list of an export was there at some time; it sees the list's digest alone. The token
// is beside the list, not in it: it is made when the export is closed, or later.

// tokenFile is the TimeStampToken over the list, in DER.
const tokenFile = "SHA256SUMS.tst"

// Stamp is what a time-stamping authority says.
type Stamp struct {
	Time      time.Time     `json:"time"` // UTC
	Accuracy  time.Duration `json:"accuracy"`
	Authority string        `json:"authority"` // subject of its certificate
	Compared  bool          `json:"compared"`  // with an authority's certificate from outside the export
}

// ErrStamped says that an export has a token already.
var ErrStamped = errors.New("it has a time stamp already")

// Timestamp asks an authority for a token over a finished export's list of files and puts it beside. roots are the authority's, PEM; nil:
// whoever signs counts. The error unwraps to ErrStamped.
func Timestamp(ctx context.Context, dir, url string, roots []byte) (*Stamp, error) {
	list, err := os.ReadFile(filepath.Join(dir, sumsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has no %s: it is no export, or not a finished one", dir, sumsFile)
	}
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, tokenFile)
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%s: %w (%s)", dir, ErrStamped, tokenFile)
	}
	token, err := askForToken(ctx, url, list)
	if err != nil {
		return nil, fmt.Errorf("the time-stamping authority %s: %w", url, err)
	}
	stamp, err := checkToken(ctx, token, list, roots)
	if err != nil {
		return nil, fmt.Errorf("the time-stamping authority %s: %w", url, err)
	}
	s := &sink{dir: dir}
	_, err = s.putClear(tokenFile, func(w io.Writer) error { _, err := w.Write(token); return err })
	return stamp, err
}

// stampTime is how long the authority may take.
const stampTime = time.Minute

func askForToken(ctx context.Context, url string, list []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, stampTime)
	defer cancel()
	authority, err := tsp.NewHTTPTimestamper(&http.Client{Timeout: stampTime}, url)
	if err != nil {
		return nil, err
	}
	request, err := tsp.NewRequest(tsp.RequestOptions{Content: list, HashAlgorithm: crypto.SHA256})
	if err != nil {
		return nil, err
	}
	response, err := authority.Timestamp(ctx, request)
	if err != nil {
		return nil, err
	}
	return response.TimestampToken.FullBytes, nil
}

// checkToken says what a token says of a list. Without roots its signature is checked against the certificates in it.
func checkToken(ctx context.Context, token, list, roots []byte) (*Stamp, error) {
	signed, err := tsp.ParseSignedToken(token)
	if err != nil {
		return nil, err
	}
	info, err := signed.Info()
	if err != nil {
		return nil, err
	}
	said, err := info.Validate(list)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if roots != nil && !pool.AppendCertsFromPEM(roots) {
		return nil, errors.New("there is no PEM certificate of the authority")
	}
	for _, c := range signed.Certificates {
		if roots == nil {
			pool.AddCert(c)
		}
	}
	chain, err := signed.Verify(ctx, x509.VerifyOptions{Roots: pool, CurrentTime: said.Value})
	if err != nil {
		return nil, err
	}
	return &Stamp{Time: said.Value.UTC(), Accuracy: said.Accuracy, Authority: chain[0].Subject.String(), Compared: roots != nil}, nil
}

// stamp checks the token, if there is one.
func (v *verifier) stamp(ctx context.Context, list []byte) {
	token, err := v.read(tokenFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		v.Stamp, err = checkToken(ctx, bytes.Clone(token), list, v.o.Authority)
	}
	if err != nil {
		v.problem("%s is no time stamp of %s: %v", tokenFile, sumsFile, err)
	}
}
