package dashboard

import (
	"embed"
	"fmt"
	"html/template"
	"strings"
	"time"

	"rsc.io/qr"

	"github.com/sealpost/sealpost/bridge"
)

//go:embed templates style.css
var files embed.FS

var style = func() string {
	text, err := files.ReadFile("style.css")
	if err != nil {
		panic(err)
	}
	return string(text)
}()

// functions are what templates can call.
var functions = template.FuncMap{
	"date":    func(t time.Time) string { return t.Local().Format(time.DateOnly) },
	"time":    func(t time.Time) string { return t.Local().Format("2006-01-02 15:04") },
	"grouped": grouped, "mailboxBar": mailboxBar, "dayColumns": dayColumns, "correspondents": countCorrespondents,
	"percent": percent, "totals": totals, "style": func() template.CSS { return template.CSS(style) },
}

// grouped is a fingerprint in groups of four digits, as people compare it.
func grouped(fingerprint any) string {
	var groups []string
	for text := fmt.Sprint(fingerprint); text != ""; {
		n := min(4, len(text))
		groups, text = append(groups, text[:n]), text[n:]
	}
	return strings.Join(groups, " ")
}

// code is a QR code as a path of squares in an SVG of Size by Size units, with its margin.
type code struct {
	Size int
	Path string
}

func qrCode(content string) (code, error) {
	drawn, err := qr.Encode(content, qr.M)
	if err != nil {
		return code{}, fmt.Errorf("QR code: %w", err)
	}
	const margin = 4 // modules, as readers need it
	var path strings.Builder
	for y := range drawn.Size {
		for x := range drawn.Size {
			if drawn.Black(x, y) {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x+margin, y+margin)
			}
		}
	}
	return code{drawn.Size + 2*margin, path.String()}, nil
}

// piece is one rectangle of a chart; Kind is its class in the style sheet.
type piece struct {
	X, Y, Width, Height float64
	Kind                string
	Count               int
}

// barWidth is a whole bar, in units of its SVG.
const barWidth = 400

// bar lays parts side by side so that together they are barWidth wide.
func bar(parts ...piece) []piece {
	total := 0
	for _, p := range parts {
		total += p.Count
	}
	var drawn []piece
	x := 0.0
	for _, p := range parts {
		if p.Count > 0 {
			p.X, p.Width, p.Height = x, barWidth*float64(p.Count)/float64(total), 16
			x += p.Width
			drawn = append(drawn, p)
		}
	}
	return drawn
}

func mailboxBar(m bridge.MailboxStack) []piece {
	return bar(piece{Kind: "end", Count: m.EndToEnd}, piece{Kind: "sealed", Count: m.Sealed}, piece{Kind: "failed", Count: m.Failed},
		piece{Kind: "unopened", Count: m.Unopened}, piece{Kind: "clear", Count: m.Clear})
}

// correspondents counts those who have a certificate that can be used, one that cannot, and none.
type correspondents struct{ Usable, Unusable, None int }

func countCorrespondents(all []bridge.Correspondent) correspondents {
	var n correspondents
	for _, c := range all {
		switch {
		case c.Fingerprint == "":
			n.None++
		case c.Problem != "" || c.Pending != "" || c.Blocked:
			n.Unusable++
		default:
			n.Usable++
		}
	}
	return n
}

// Bar draws them.
func (n correspondents) Bar() []piece {
	return bar(piece{Kind: "end", Count: n.Usable}, piece{Kind: "failed", Count: n.Unusable}, piece{Kind: "clear", Count: n.None})
}

// columns is a chart of decisions, a column a day.
type columns struct {
	Pieces    []piece
	Width     float64
	Max       int
	First     time.Time
	Last      time.Time
	Decisions bridge.Decisions // together
}

const (
	columnHeight = 80
	columnWidth  = 10
)

func dayColumns(days []bridge.DayDecisions) columns {
	c := columns{Width: float64(len(days) * columnWidth)}
	for _, d := range days {
		c.Max = max(c.Max, d.Encrypted+d.Clear+d.Refused)
	}
	for i, d := range days {
		if i == 0 {
			c.First = d.Day
		}
		c.Last = d.Day
		c.Decisions.Encrypted, c.Decisions.Clear, c.Decisions.Refused = c.Decisions.Encrypted+d.Encrypted, c.Decisions.Clear+d.Clear, c.Decisions.Refused+d.Refused
		y := float64(columnHeight)
		for _, p := range []piece{{Kind: "end", Count: d.Encrypted}, {Kind: "clear", Count: d.Clear}, {Kind: "failed", Count: d.Refused}} {
			if p.Count == 0 {
				continue
			}
			p.Height = columnHeight * float64(p.Count) / float64(c.Max)
			y -= p.Height
			p.X, p.Y, p.Width = float64(i*columnWidth)+1, y, columnWidth-2
			c.Pieces = append(c.Pieces, p)
		}
	}
	return c
}

// percent is part of a whole, rounded down: 100 % is only said where it is so.
func percent(part, whole int) string {
	if whole == 0 {
		return "–"
	}
	return fmt.Sprintf("%d %%", part*100/whole)
}

// totals of all mailboxes of an account.
func totals(a bridge.AccountStack) bridge.MailboxStack {
	var t bridge.MailboxStack
	for _, m := range a.Mailboxes {
		t.Messages, t.Ciphertext, t.EndToEnd, t.Sealed = t.Messages+m.Messages, t.Ciphertext+m.Ciphertext, t.EndToEnd+m.EndToEnd, t.Sealed+m.Sealed
		t.Failed, t.Clear, t.Unopened = t.Failed+m.Failed, t.Clear+m.Clear, t.Unopened+m.Unopened
	}
	return t
}
