package main

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"html/template"
	"time"

	"rsc.io/qr"

	"github.com/sealpost/sealpost/bridge"
)

//go:embed backupsheet.html
var backupSheetHTML string

var backupSheetTemplate = template.Must(template.New("sheet").Parse(backupSheetHTML))

// backupSheet is a page to print: the recovery code, also as a QR code, and what to do with it.
func backupSheet(code bridge.RecoveryCode, file string, made time.Time) []byte {
	var image template.URL
	if drawn, err := qr.Encode(code.String(), qr.M); err == nil {
		image = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(drawn.PNG()))
	}
	var page bytes.Buffer
	_ = backupSheetTemplate.Execute(&page, map[string]any{ // to memory; the template is fixed
		"Code": code.String(), "Image": image, "File": file, "Made": made.Format(time.DateOnly),
	})
	return page.Bytes()
}
