package main

import (
	"strings"

	"rsc.io/qr"
)

// qrText draws a QR code with two rows of modules in a line of text. It is inverted, for light text on dark
// ground, with the margin of four modules that readers need.
func qrText(content string) (string, error) {
	code, err := qr.Encode(content, qr.M)
	if err != nil {
		return "", err
	}
	const margin = 4
	light := func(x, y int) bool { return !code.Black(x, y) } // also outside of the code
	var text strings.Builder
	for y := -margin; y < code.Size+margin; y += 2 {
		for x := -margin; x < code.Size+margin; x++ {
			text.WriteString(map[[2]bool]string{{true, true}: "█", {true, false}: "▀", {false, true}: "▄", {false, false}: " "}[[2]bool{light(x, y), light(x, y+1)}])
		}
		text.WriteByte('\n')
	}
	return text.String(), nil
}
