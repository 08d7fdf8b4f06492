package mirror

import (
	"io"
	"strings"

	"golang.org/x/net/html"

	"github.com/sealpost/sealpost/bridge/mimescan"
)

// breaking are the elements that are displayed apart from what stands beside them (HTML Standard §15.3: display: block, list-item, table-…; and
// controls and embedded content). Inside all others a word goes on.
var breaking = elements(`address article aside audio blockquote body br button canvas caption center col colgroup dd details dialog dir div dl dt embed
	fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe img input legend li link listing main
	marquee menu meta meter nav noframes noscript object ol optgroup option p param plaintext pre progress rp rt search section select slot source
	summary svg table tbody td template textarea tfoot th thead title tr track ul video xmp`)

func elements(names string) map[string]bool {
	set := map[string]bool{}
	for name := range strings.FieldsSeq(names) {
		set[name] = true
	}
	return set
}

// html emits what a reader sees of it.
func (w *textWalk) html(p *mimescan.Part) error {
	text, err := mimescan.Text(w.src, p)
	if err != nil {
		return err
	}
	s := &htmlText{z: html.NewTokenizer(text)}
	s.z.SetMaxBuf(1 << 20)
	for {
		kind := s.z.Next()
		if kind == html.ErrorToken {
			break
		}
		s.token(kind)
		if s.out.Len() > textPiece {
			if err := w.emit(s.out.String()); err != nil {
				return err
			}
			s.out.Reset()
		}
	}
	if err := w.emit(s.out.String() + "\n"); err != nil {
		return err
	}
	switch err := s.z.Err(); err {
	case io.EOF:
		return nil
	case html.ErrBufferExceeded: // it is no markup that anybody wrote; its bytes can still be found
		return w.plain(p)
	default:
		return err
	}
}

type htmlText struct {
	z    *html.Tokenizer
	out  strings.Builder
	skip bool // in a script or a style sheet
}

func (s *htmlText) token(kind html.TokenType) {
	switch kind {
	case html.TextToken:
		if !s.skip {
			s.words(string(s.z.Text()))
		}
	case html.StartTagToken, html.SelfClosingTagToken, html.EndTagToken:
		name, _ := s.z.TagName()
		if tag := string(name); tag == "script" || tag == "style" {
			s.skip = kind == html.StartTagToken
		} else if breaking[tag] {
			s.out.WriteByte('\n')
			s.alternative(tag)
		}
	}
}

// alternative writes what is shown in place of a picture that is not (HTML Standard §4.8.4.4).
func (s *htmlText) alternative(tag string) {
	for more := tag == "img" || tag == "input"; more; {
		var key, value []byte
		if key, value, more = s.z.TagAttr(); string(key) == "alt" {
			s.words(string(value) + "\n")
		}
	}
}

// words writes text with its white space collapsed, as it is displayed. A space that does not break is none of that (CSS Text §4.1).
func (s *htmlText) words(text string) {
	space := func(c rune) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' }
	if text != "" && space(rune(text[0])) {
		s.out.WriteByte(' ')
	}
	words := strings.FieldsFunc(text, space)
	s.out.WriteString(strings.Join(words, " "))
	if len(words) > 0 && space(rune(text[len(text)-1])) {
		s.out.WriteByte(' ')
	}
}
