package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/export"
)

type exportMergeCmd struct {
	Dirs  []string `arg:"" name:"dir" help:"Folders of finished exports." type:"existingdir"`
	Out   string   `required:"" help:"Folder for the merged export: new or empty." placeholder:"DIR" type:"path"`
	Bates string   `help:"Number the documents with this prefix." placeholder:"PREFIX"`
	JSON  bool     `help:"Print JSON."`
}

func (exportMergeCmd) Help() string {
	return `Example:

    sealpost export merge laptop-export desktop-export --out acme-export

Each is verified first, and they must have asked the same question. What several have is there once, with all custodians. Documents get
new numbers. The first account of this device signs; the signed lists and custody logs of the sources are in sources/.`
}

var exportMergeOperation = operation[export.MergeRequest, *export.Accounting]{"export-merge", false, func(ctx context.Context, s *service, r export.MergeRequest, p bridge.Progress) (*export.Accounting, error) {
	return s.desk().Merge(ctx, r, export.Progress(p))
}}

// Run implements the command.
func (c exportMergeCmd) Run(ctx context.Context, g *globals) error {
	if len(c.Dirs) < 2 {
		return fmt.Errorf("%w: give the folders of two exports at least", errUsage)
	}
	r := export.MergeRequest{Bates: c.Bates}
	for _, dir := range append(c.Dirs, c.Out) {
		absolute, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		r.Directories = append(r.Directories, absolute)
	}
	r.Directory, r.Directories = r.Directories[len(c.Dirs)], r.Directories[:len(c.Dirs)]
	a, err := call(ctx, g, exportMergeOperation, r)
	if err != nil {
		return err
	}
	if c.JSON {
		return attention(g.printJSON(a), a)
	}
	printAccounting(g, a)
	fmt.Fprintf(g.stdout, "Merged into %s. Check it with: sealpost export verify %s\n", r.Directory, r.Directory)
	return attention(nil, a)
}
