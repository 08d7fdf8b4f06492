package mirror

import "github.com/sealpost/sealpost/bridge/mimescan"

// Fold is the form in which text is compared (see fold).
func Fold(s string) string { return fold(s) }

// FieldLines are the fields of a header as search knows them, not folded: see decodeFields.
func FieldLines(header mimescan.Header) string { return decodeFields(header) }

// PartText calls f with the text of one part without children, and of what is below it if it is a message, in the pieces in
// which search folds it: all of them together, each folded, are what search knows. Parts that are neither text nor a
// message have none. f ends the walk by an error, which is returned.
func PartText(src mimescan.Source, p *mimescan.Part, f func(piece string) error) error {
	return (&textWalk{src: src, emit: f}).body(p)
}
