package dashboard

import (
	"fmt"
	"html/template"
	"io"

	"github.com/sealpost/sealpost/bridge"
)

var report = template.Must(template.New("report.html").Funcs(functions).ParseFS(files, "templates/report.html", "templates/stack.html"))

// WriteReport writes the stack as an HTML page that needs nothing else: no script, no other file, no network.
func WriteReport(w io.Writer, s bridge.Stack) error {
	if err := report.Execute(w, s); err != nil {
		return fmt.Errorf("audit report: %w", err)
	}
	return nil
}
