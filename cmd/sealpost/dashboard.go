package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/bridge/dashboard"
)

// linkLife is how long a link to the dashboard can be used; the demo's, which has no other, for as long as people
// look at a demo.
const (
	linkLife     = 10 * time.Minute
	demoLinkLife = 12 * time.Hour
)

// listenDashboard opens the web page's listener, if it is on.
func (d *services) listenDashboard(ctx context.Context, inherited sockets) error {
	const name = "dashboard"
	listener, err := inherited.open(name, d.service.config.Local.Dashboard)
	if err != nil || listener == nil {
		return err
	}
	board, err := dashboard.New(ctx, dashboard.Options{Bridge: d.service.bridge, Address: listener.Addr().String(), Log: d.log})
	if err != nil {
		_ = listener.Close()
		return err
	}
	d.service.dashboard = board
	d.servers = append(d.servers, server{name, listener, board.Serve})
	d.shutdown = append(d.shutdown, board.Shutdown)
	return nil
}

// dashboardOperation makes a link to the dashboard, which lets in once; "" if it is off.
var dashboardOperation = operation[none, string]{"dashboard", false, func(_ context.Context, s *service, _ none, _ bridge.Progress) (string, error) {
	if s.dashboard == nil {
		return "", nil
	}
	return s.dashboard.LoginURL(linkLife), nil
}}

// printDashboard adds the link to a status; a bridge that does not run has none.
func printDashboard(ctx context.Context, g *globals, st status) error {
	if !st.Running {
		return nil
	}
	link, err := call(ctx, g, dashboardOperation, none{})
	if err == nil && link != "" {
		fmt.Fprintf(g.stdout, "\nDashboard (the link lets one browser in, within %d minutes):\n%s\n", int(linkLife.Minutes()), link)
	}
	return err
}
