package imapd

import (
	"io"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-message/charset"

	"github.com/sealpost/sealpost/bridge/mirror"
)

// searchKeys reads the keys of SEARCH, SORT and THREAD (RFC 9051 §6.4.4).
type searchKeys struct {
	*arguments
	saved   []imap.UID // "$" (RFC 5182)
	recent  imap.UIDSet
	charset string // of the strings; "" is UTF-8
	now     time.Time
	depth   int
}

const maxKeyDepth = 50 // keys inside of keys

var errBadCharset = no("BADCHARSET (UTF-8 US-ASCII)", "The charset is not known")

// all reads keys to the end of the command; all of them must match.
func (k *searchKeys) all() (mirror.Criterion, error) {
	var keys mirror.And
	for {
		key, err := k.key()
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
		if k.empty() {
			return keys, nil
		}
		if err := k.space(); err != nil {
			return nil, err
		}
	}
}

// key reads one key.
func (k *searchKeys) key() (mirror.Criterion, error) {
	if k.depth++; k.depth > maxKeyDepth {
		return nil, refused("BAD Search keys are nested too deeply")
	}
	defer func() { k.depth-- }()
	switch c := k.next(); {
	case c == '(':
		var keys mirror.And
		err := k.list(func() error {
			key, err := k.key()
			keys = append(keys, key)
			return err
		})
		if err == nil && len(keys) == 0 {
			err = malformed
		}
		return keys, err
	case c == '$', c == '*', c >= '0' && c <= '9':
		set, err := k.set()
		if set.saved {
			return mirror.UIDs(imap.UIDSetNum(k.saved...)), err
		}
		return mirror.Seq(set.ranges), err
	}
	name, err := k.word()
	if err != nil {
		return nil, err
	}
	if key, ok := plainKeys[name]; ok {
		return key, nil
	}
	if key := k.recentKey(name); key != nil {
		return key, nil
	}
	read, ok := keyReaders[name]
	if !ok {
		return nil, refused("BAD Unknown search key")
	}
	if err := k.space(); err != nil {
		return nil, err
	}
	return read(k)
}

// plainKeys take no arguments.
var plainKeys = map[string]mirror.Criterion{
	"ALL":        mirror.And{},
	"ANSWERED":   mirror.Flagged(imap.FlagAnswered),
	"DELETED":    mirror.Flagged(imap.FlagDeleted),
	"DRAFT":      mirror.Flagged(imap.FlagDraft),
	"FLAGGED":    mirror.Flagged(imap.FlagFlagged),
	"SEEN":       mirror.Flagged(imap.FlagSeen),
	"UNANSWERED": mirror.Not{Criterion: mirror.Flagged(imap.FlagAnswered)},
	"UNDELETED":  mirror.Not{Criterion: mirror.Flagged(imap.FlagDeleted)},
	"UNDRAFT":    mirror.Not{Criterion: mirror.Flagged(imap.FlagDraft)},
	"UNFLAGGED":  mirror.Not{Criterion: mirror.Flagged(imap.FlagFlagged)},
	"UNSEEN":     mirror.Not{Criterion: mirror.Flagged(imap.FlagSeen)},
}

// recentKey are the keys of RFC 3501 §6.4.4 about recent messages.
func (k *searchKeys) recentKey(name string) mirror.Criterion {
	switch name {
	case "RECENT":
		return mirror.UIDs(k.recent)
	case "NEW":
		return mirror.And{mirror.UIDs(k.recent), plainKeys["UNSEEN"]}
	case "OLD":
		return mirror.Not{Criterion: mirror.UIDs(k.recent)}
	}
	return nil
}

// keyReaders read the arguments of the others.
var keyReaders map[string]func(k *searchKeys) (mirror.Criterion, error)

func init() { // it refers to itself by way of key
	keyReaders = map[string]func(k *searchKeys) (mirror.Criterion, error){
		"NOT": func(k *searchKeys) (mirror.Criterion, error) {
			key, err := k.key()
			return mirror.Not{Criterion: key}, err
		},
		"OR":      (*searchKeys).or,
		"UID":     (*searchKeys).uids,
		"HEADER":  (*searchKeys).header,
		"KEYWORD": (*searchKeys).keyword,
		"UNKEYWORD": func(k *searchKeys) (mirror.Criterion, error) {
			key, err := k.keyword()
			return mirror.Not{Criterion: key}, err
		},

		"SUBJECT": field("Subject"), "FROM": field("From"), "TO": field("To"), "CC": field("Cc"), "BCC": field("Bcc"),
		"BODY": text(func(s string) mirror.Criterion { return mirror.Body(s) }),
		"TEXT": text(func(s string) mirror.Criterion { return mirror.Text(s) }),

		"LARGER":  amount(func(n int64) mirror.Criterion { return mirror.Larger(n) }),
		"SMALLER": amount(func(n int64) mirror.Criterion { return mirror.Smaller(n) }),

		"SINCE":      onDate(func(d time.Time) mirror.Criterion { return mirror.Arrived{Since: d} }),
		"BEFORE":     onDate(func(d time.Time) mirror.Criterion { return mirror.Arrived{Before: d} }),
		"ON":         onDate(func(d time.Time) mirror.Criterion { return mirror.Arrived{Since: d, Before: d.AddDate(0, 0, 1)} }),
		"SENTSINCE":  onDate(func(d time.Time) mirror.Criterion { return mirror.Sent{Since: d} }),
		"SENTBEFORE": onDate(func(d time.Time) mirror.Criterion { return mirror.Sent{Before: d} }),
		"SENTON":     onDate(func(d time.Time) mirror.Criterion { return mirror.Sent{Since: d, Before: d.AddDate(0, 0, 1)} }),

		"EMAILID":  objectKey(func(id string) mirror.Criterion { return mirror.EmailID(id) }),
		"THREADID": objectKey(func(id string) mirror.Criterion { return mirror.ThreadID(id) }),

		"YOUNGER": (*searchKeys).younger,
		"OLDER":   (*searchKeys).older,
	}
}

func (k *searchKeys) or() (mirror.Criterion, error) {
	left, err := k.key()
	if err == nil {
		err = k.space()
	}
	if err != nil {
		return nil, err
	}
	right, err := k.key()
	return mirror.Or{Left: left, Right: right}, err
}

func (k *searchKeys) uids() (mirror.Criterion, error) {
	set, err := k.set()
	if set.saved {
		return mirror.UIDs(imap.UIDSetNum(k.saved...)), err
	}
	return mirror.UIDs(set.uids()), err
}

func (k *searchKeys) header() (mirror.Criterion, error) {
	name, err := k.astring()
	if err == nil {
		err = k.space()
	}
	if err != nil {
		return nil, err
	}
	value, err := k.text()
	return mirror.Header{Name: strings.TrimSuffix(name, ":"), Value: value}, err
}

func (k *searchKeys) keyword() (mirror.Criterion, error) {
	name, err := k.astring()
	return mirror.Flagged(name), err
}

// text takes a string and decodes it.
func (k *searchKeys) text() (string, error) {
	s, err := k.astring()
	if err != nil || k.charset == "" {
		return s, err
	}
	decoded, err := charset.Reader(k.charset, strings.NewReader(s))
	if err != nil {
		return "", errBadCharset
	}
	b, err := io.ReadAll(decoded)
	if err != nil {
		return "", errBadCharset
	}
	return string(b), nil
}

func field(name string) func(k *searchKeys) (mirror.Criterion, error) {
	return text(func(s string) mirror.Criterion { return mirror.Header{Name: name, Value: s} })
}

func text(key func(s string) mirror.Criterion) func(k *searchKeys) (mirror.Criterion, error) {
	return func(k *searchKeys) (mirror.Criterion, error) {
		s, err := k.text()
		return key(s), err
	}
}

func amount(key func(n int64) mirror.Criterion) func(k *searchKeys) (mirror.Criterion, error) {
	return func(k *searchKeys) (mirror.Criterion, error) {
		n, err := k.number()
		return key(n), err
	}
}

func onDate(key func(d time.Time) mirror.Criterion) func(k *searchKeys) (mirror.Criterion, error) {
	return func(k *searchKeys) (mirror.Criterion, error) {
		d, err := k.date()
		return key(d), err
	}
}

// checkCharset makes sure that text can be decoded.
func checkCharset(name string) error {
	if _, err := charset.Reader(name, strings.NewReader("")); err != nil {
		return errBadCharset
	}
	return nil
}

// interval takes the seconds of WITHIN (RFC 5032 §2) and gives the moment so long ago.
func (k *searchKeys) interval() (time.Time, error) {
	n, err := k.number()
	if err == nil && (n == 0 || n > 1<<33) {
		err = malformed
	}
	return k.now.Add(-time.Duration(n) * time.Second), err
}

func (k *searchKeys) younger() (mirror.Criterion, error) {
	moment, err := k.interval()
	return mirror.Received{After: moment.Add(-time.Second)}, err
}

func (k *searchKeys) older() (mirror.Criterion, error) {
	moment, err := k.interval()
	return mirror.Received{UpTo: moment}, err
}
