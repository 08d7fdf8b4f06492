package bridgetest

import (
	"crypto/rand"
	"crypto/sha1" // of version 4 fingerprints
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// VKS is a verifying key server as keys.openpgp.org/about/api describes it, for binary version 4 certificates in
// Base64. An address is published once Open was called for it, as its owner would open the link in the mail.
type VKS struct {
	listener net.Listener
	server   *http.Server
	serving  sync.WaitGroup

	mu       sync.Mutex
	keys     map[string]*vksKey // by fingerprint
	tokens   map[string]string  // token → fingerprint
	mails    []string           // addresses that a link was sent to, in order
	expire   bool
	failure  *VKSFailure
	requests []string
}

// VKSFailure is answered in place of everything else.
type VKSFailure struct {
	Status     int
	Error      string // in a JSON object, as the server does
	RetryAfter string // header
}

type vksKey struct {
	data   []byte
	status map[string]string // address → status
}

// StartVKS listens on a free loopback port, with a certificate of CA().
func StartVKS() (*VKS, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listener of the key server: %w", err)
	}
	leaf, err := CA().Issue(time.Time{}, "localhost", "127.0.0.1")
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	v := &VKS{listener: l, keys: map[string]*vksKey{}, tokens: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /vks/v1/upload", v.upload)
	mux.HandleFunc("POST /vks/v1/request-verify", v.requestVerify)
	mux.HandleFunc("GET /vks/v1/by-email/{address}", v.byEmail)
	v.server = &http.Server{
		Handler: v.watched(mux), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{leaf}},
	}
	v.serving.Go(func() { _ = v.server.ServeTLS(l, "", "") })
	return v, nil
}

// Close ends all connections.
func (v *VKS) Close() error {
	err := v.server.Close()
	v.serving.Wait()
	return err
}

// URL is that of the configuration.
func (v *VKS) URL() string { return "https://" + v.listener.Addr().String() }

// CAFile writes the CA into dir and returns its path.
func (v *VKS) CAFile(dir string) (string, error) {
	path := filepath.Join(dir, "vks-ca.pem")
	return path, os.WriteFile(path, CA().PEM(), 0o644)
}

// Mails are the addresses that a link was sent to, in order.
func (v *VKS) Mails() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.mails)
}

// Requests are "METHOD path", in order.
func (v *VKS) Requests() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.requests)
}

// Fail answers everything with that; nil ends it.
func (v *VKS) Fail(f *VKSFailure) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failure = f
}

// ExpireTokens lets no token given out be used any more, from now on.
func (v *VKS) ExpireTokens(on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.expire = on
}

// Open opens the link in the mail to the address.
func (v *VKS) Open(address string) { v.change(address, "pending", "published") }

// Unpublish takes an address back, as its owner can.
func (v *VKS) Unpublish(address string) { v.change(address, "published", "unpublished") }

func (v *VKS) change(address, from, to string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, k := range v.keys {
		if k.status[address] == from {
			k.status[address] = to
		}
	}
}

// Published is the binary certificate given out for the address; nil if there is none.
func (v *VKS) Published(address string) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, k := range v.keys {
		if k.status[address] == "published" {
			return k.data
		}
	}
	return nil
}

func (v *VKS) watched(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		v.requests = append(v.requests, r.Method+" "+r.URL.Path)
		failure := v.failure
		v.mu.Unlock()
		if failure == nil {
			next.ServeHTTP(w, r)
			return
		}
		if failure.RetryAfter != "" {
			w.Header().Set("Retry-After", failure.RetryAfter)
		}
		refuse(w, failure.Status, failure.Error)
	})
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": text})
}

func (v *VKS) upload(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Keytext string `json:"keytext"`
	}
	err := json.NewDecoder(r.Body).Decode(&request)
	var data []byte
	if err == nil {
		data, err = base64.StdEncoding.DecodeString(request.Keytext)
	}
	var fingerprint string
	var addresses []string
	if err == nil {
		fingerprint, addresses, err = describe(data)
	}
	if err != nil || r.Header.Get("Content-Type") != "application/json" {
		refuse(w, http.StatusBadRequest, "Parsing of key data failed.")
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.keys[fingerprint]
	if k == nil {
		k = &vksKey{status: map[string]string{}}
		v.keys[fingerprint] = k
	}
	k.data = data
	for _, address := range addresses {
		if k.status[address] == "" {
			k.status[address] = "unpublished"
		}
	}
	token := rand.Text()
	v.tokens[token] = fingerprint
	v.answer(w, fingerprint, token)
}

func (v *VKS) answer(w http.ResponseWriter, fingerprint, token string) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"key_fpr": fingerprint, "status": v.keys[fingerprint].status, "token": token})
}

func (v *VKS) requestVerify(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Token     string   `json:"token"`
		Addresses []string `json:"addresses"`
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		refuse(w, http.StatusBadRequest, "Malformed JSON")
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	fingerprint, ok := v.tokens[request.Token]
	if !ok || v.expire {
		refuse(w, http.StatusBadRequest, "Upload session expired. Please try again.")
		return
	}
	k := v.keys[fingerprint]
	for _, address := range request.Addresses {
		if s := k.status[address]; s == "unpublished" || s == "pending" {
			k.status[address] = "pending"
			v.mails = append(v.mails, address)
		}
	}
	v.answer(w, fingerprint, request.Token)
}

func (v *VKS) byEmail(w http.ResponseWriter, r *http.Request) {
	data := v.Published(r.PathValue("address"))
	if data == nil {
		http.Error(w, "No key found for email address", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/pgp-keys")
	_, _ = w.Write(data)
}

// describe is the fingerprint and the addresses of a binary version 4 certificate (RFC 9580 §4.2, §5.5.4).
func describe(data []byte) (fingerprint string, addresses []string, err error) {
	for len(data) > 0 {
		tag, body, rest, err := nextPacket(data)
		if err != nil {
			return "", nil, err
		}
		switch {
		case tag == 6 && fingerprint == "" && len(body) > 0 && body[0] == 4:
			fingerprint = fmt.Sprintf("%X", sha1.Sum(append([]byte{0x99, byte(len(body) >> 8), byte(len(body))}, body...)))
		case tag == 5 || tag == 7:
			return "", nil, errors.New("a secret key")
		case tag == 13:
			_, spec, named := strings.Cut(string(body), "<")
			if !named {
				spec = string(body)
			}
			addresses = append(addresses, strings.ToLower(strings.TrimSuffix(spec, ">")))
		}
		data = rest
	}
	if fingerprint == "" {
		return "", nil, errors.New("not a version 4 certificate")
	}
	return fingerprint, addresses, nil
}

func nextPacket(data []byte) (tag byte, body, rest []byte, err error) {
	length, header := 0, 0
	switch {
	case len(data) > 6 && data[0]&0xC0 == 0x80: // legacy format
		tag = data[0] >> 2 & 15
		header = 1 + 1<<(data[0]&3)
		for _, b := range data[1:min(header, 5)] {
			length = length<<8 | int(b)
		}
	case len(data) > 6 && data[0]&0xC0 == 0xC0:
		tag = data[0] & 63
		switch first := int(data[1]); {
		case first < 192:
			length, header = first, 2
		case first < 224:
			length, header = (first-192)<<8+int(data[2])+192, 3
		case first == 255:
			length, header = int(data[2])<<24|int(data[3])<<16|int(data[4])<<8|int(data[5]), 6
		}
	}
	if header == 0 || header+length > len(data) {
		return 0, nil, nil, errors.New("not an OpenPGP packet")
	}
	return tag, data[header : header+length], data[header+length:], nil
}
