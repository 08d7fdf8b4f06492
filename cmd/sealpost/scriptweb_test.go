package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"
)

// browse FILE: opens the link in FILE as a browser does; prints the status and the page that it ends at.
func browse(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: browse FILE")
	}
	link := regexp.MustCompile(`http://127\.0\.0\.1:\d+/login\?code=\S+`).FindString(ts.ReadFile(args[0]))
	jar, err := cookiejar.New(nil)
	ts.Check(err)
	browser := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := browser.Get(link)
	ts.Check(err)
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	ts.Check(err)
	_, err = io.WriteString(ts.Stdout(), answer.Status+"\n"+string(page))
	ts.Check(err)
}
