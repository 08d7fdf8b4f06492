package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"golang.org/x/sync/errgroup"
)

// workers is how many goroutines encrypt and decrypt: the targets are about two cores.
const workers = 2

// keys are the senders' secret keys, serialized: an Entity is not safe for concurrent use, so that each
// worker reads its own copies.
type keys [][]byte

func newKeys() (keys, error) {
	var all keys
	for i := range senders {
		e, err := openpgp.NewEntity(fmt.Sprintf("Person %02d", i), "", senderAddress(i), &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
		if err != nil {
			return nil, fmt.Errorf("key of a sender: %w", err)
		}
		var b bytes.Buffer
		if err := e.SerializePrivate(&b, nil); err != nil {
			return nil, fmt.Errorf("key of a sender: %w", err)
		}
		all = append(all, b.Bytes())
	}
	return all, nil
}

func (k keys) entities() (openpgp.EntityList, error) {
	var list openpgp.EntityList
	for _, data := range k {
		e, err := openpgp.ReadKeyRing(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		list = append(list, e...)
	}
	return list, nil
}

// autocrypt are the header fields that announce the senders' certificates.
func (k keys) autocrypt() ([]string, error) {
	list, err := k.entities()
	if err != nil {
		return nil, err
	}
	var fields []string
	for i, e := range list {
		var b bytes.Buffer
		if err := e.Serialize(&b); err != nil {
			return nil, err
		}
		field := "Autocrypt: addr=" + senderAddress(i) + "; prefer-encrypt=mutual; keydata="
		for data := base64.StdEncoding.EncodeToString(b.Bytes()); data != ""; {
			n := min(72, len(data))
			field, data = field+"\r\n "+data[:n], data[n:]
		}
		fields = append(fields, field)
	}
	return fields, nil
}

// encrypter signs and encrypts for one worker.
type encrypter struct {
	signers   openpgp.EntityList
	recipient openpgp.EntityList
}

func newEncrypter(k keys, certificate []byte) (*encrypter, error) {
	signers, err := k.entities()
	if err != nil {
		return nil, err
	}
	recipient, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(certificate))
	if err != nil {
		return nil, fmt.Errorf("certificate that the bridge exported: %w", err)
	}
	return &encrypter{signers, recipient}, nil
}

func (e *encrypter) encrypt(m message) ([]byte, error) { return e.seal(m.sender, m.payload()) }

// seal signs with one of the signers' keys.
func (e *encrypter) seal(signer int, payload []byte) ([]byte, error) {
	var b bytes.Buffer
	armored, err := armor.Encode(&b, "PGP MESSAGE", nil)
	if err != nil {
		return nil, err
	}
	plain, err := openpgp.EncryptWithParams(armored, e.recipient, nil, &openpgp.EncryptParams{
		Signers: e.signers[signer : signer+1], Config: &packet.Config{},
	})
	if err != nil {
		return nil, err
	}
	_, err = plain.Write(payload)
	if err := errors.Join(err, plain.Close(), armored.Close()); err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte("\r\n")), nil
}

// decryptTime is how long decryption is measured at least: a few messages are decrypted again and again.
const decryptTime = 2 * time.Second

// decryptRate is how many of the messages, given as they are stored, the workers decrypt and verify in a
// second, in this process and without anything else a mail program has to do.
func decryptRate(ctx context.Context, k keys, secret []byte, stored [][]byte) (perSecond float64, err error) {
	group, ctx := errgroup.WithContext(ctx)
	var rings []openpgp.EntityList
	for range workers {
		ring, err := k.entities()
		if err != nil {
			return 0, err
		}
		own, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(secret))
		if err != nil {
			return 0, fmt.Errorf("key that the bridge exported: %w", err)
		}
		rings = append(rings, append(own, ring...))
	}
	var next atomic.Int64
	count := int64(len(stored))
	start := time.Now()
	for _, ring := range rings {
		group.Go(func() error {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= count && time.Since(start) > decryptTime {
					break
				}
				if err := decrypt(ring, stored[i%count]); err != nil {
					return fmt.Errorf("message %d: %w", i%count, err)
				}
			}
			return ctx.Err()
		})
	}
	err = group.Wait()
	return float64(next.Load()-workers) / time.Since(start).Seconds(), err
}

func decrypt(ring openpgp.EntityList, stored []byte) error {
	begin := bytes.Index(stored, []byte("-----BEGIN PGP MESSAGE-----"))
	if begin < 0 {
		return errors.New("holds no ciphertext")
	}
	block, err := armor.Decode(bytes.NewReader(stored[begin:]))
	if err != nil {
		return err
	}
	details, err := openpgp.ReadMessage(block.Body, ring, nil, &packet.Config{})
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, details.UnverifiedBody); err != nil {
		return err
	}
	if !details.IsVerified {
		return errors.New("its signature was not verified")
	}
	return details.SignatureError
}
