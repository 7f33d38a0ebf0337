package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// chromium returns a browser.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	gate.Missing(t, gate.Browser, "no Chromium: the report's pictures were not looked at (Debian: apt-get install chromium)")
	return ""
}

// faults is what a page must not have. Everything that is text in a plot must lie inside of it, be at least 10 pixels high and touch
// no other; the page must not be wider than the screen; and its plots must be there.
const faults = `(() => {
	const bad = [];
	if (document.documentElement.scrollWidth > window.innerWidth) bad.push("the page is " + document.documentElement.scrollWidth + " wide");
	const plots = document.querySelectorAll("svg");
	if (plots.length < LEAST) bad.push("there are " + plots.length + " plots");
	for (const svg of plots) {
		const box = svg.getBoundingClientRect();
		if (box.width < 200 || box.height < 30) bad.push("a plot is " + box.width + " × " + box.height);
		const texts = [...svg.querySelectorAll("text")].map(t => ({r: t.getBoundingClientRect(), s: t.textContent, px: parseFloat(getComputedStyle(t).fontSize) * box.width / svg.viewBox.baseVal.width}));
		for (const [i, a] of texts.entries()) {
			if (a.px < 10) bad.push(a.s + ": " + a.px + " px");
			if (a.r.left < box.left - 1 || a.r.right > box.right + 1 || a.r.top < box.top - 1 || a.r.bottom > box.bottom + 1) bad.push(a.s + ": is cut off");
			for (const b of texts.slice(i + 1))
				if (a.r.left < b.r.right - 1 && b.r.left < a.r.right - 1 && a.r.top < b.r.bottom - 3 && b.r.top < a.r.bottom - 3) bad.push(a.s + ": is over " + b.s);
		}
	}
	return bad;
})()`

// looks opens the page as a phone and as a desktop would, in light and dark.
func looks(t *testing.T, path string) {
	t.Helper()
	bin := chromium(t)
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(bin), chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true))
	alloc, stop := chromedp.NewExecAllocator(t.Context(), opts...)
	defer stop()
	ctx, end := chromedp.NewContext(alloc)
	defer end()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()

	var mu sync.Mutex
	var said []string
	chromedp.ListenTarget(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			said = append(said, ev.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			said = append(said, fmt.Sprintf("console.%s", ev.Type))
		case *log.EventEntryAdded:
			said = append(said, ev.Entry.Text)
		case *network.EventRequestWillBeSent:
			if u := ev.Request.URL; u != "file://"+path && u != "data:," {
				said = append(said, "asks the network for "+u)
			}
		}
	})
	backgrounds := map[string]float64{}
	for _, screen := range []struct {
		name          string
		width, height int64
	}{{"phone", 360, 740}, {"desktop", 1280, 900}} {
		for _, scheme := range []string{"light", "dark"} {
			name := screen.name + "-" + scheme
			var bad []string
			var shot []byte
			require.NoError(t, chromedp.Run(ctx,
				network.Enable(), log.Enable(), runtime.Enable(),
				emulation.SetDeviceMetricsOverride(screen.width, screen.height, 1, screen.name == "phone"),
				emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
				chromedp.Navigate("file://"+path),
				chromedp.WaitReady("figure svg", chromedp.ByQuery),
				chromedp.Evaluate(string(bytes.ReplaceAll([]byte(faults), []byte("LEAST"), []byte("10"))), &bad),
				chromedp.CaptureScreenshot(&shot),
			), name)
			require.Empty(t, bad, name)
			img, err := png.Decode(bytes.NewReader(shot))
			require.NoError(t, err, name)
			back, ink := brightness(img)
			backgrounds[name] = back
			require.Greater(t, ink, 0.01, "%s: nothing is drawn", name)
			if *sample != "" {
				require.NoError(t, os.WriteFile(filepath.Join(*sample, name+".png"), shot, 0o644))
			}
		}
	}
	require.Greater(t, backgrounds["phone-light"], 0.8, "light is light")
	require.Less(t, backgrounds["phone-dark"], 0.2, "dark is dark")
	mu.Lock()
	defer mu.Unlock()
	require.Empty(t, said, "the page is not quiet")
}

// brightness is that of the most frequent grey of a picture, and the share of what differs from it by a quarter or more.
func brightness(img image.Image) (back, ink float64) {
	var counts [256]int
	total := 0
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, bl, _ := img.At(x, y).RGBA()
			counts[(r+g+bl)/3>>8]++
			total++
		}
	}
	most := 0
	for v, n := range counts {
		if n > counts[most] {
			most = v
		}
	}
	other := 0
	for v, n := range counts {
		if v-most > 64 || most-v > 64 {
			other += n
		}
	}
	return float64(most) / 255, float64(other) / float64(total)
}
