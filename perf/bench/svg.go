package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Measures of the picture, in pixels.
const (
	svgWidth  = 940
	svgLeft   = 410 // room for the titles
	svgRight  = 60
	svgTop    = 74
	barHeight = 9
	svgPitch  = 32
)

// bar is one line of the picture: how many times less CPU ours needs.
type bar struct {
	title        string
	memory, disk float64 // ratios; 0 is not measured
	floor        float64 // 0 is none
}

// bars are the last pass of every workload of throughput.
func bars(o options, all results) []bar {
	var list []bar
	for _, w := range workloads {
		b := bar{title: w.title}
		for i, r := range w.rows {
			if !r.throughput {
				continue
			}
			ours := all[cell{w.name, oursName, i}]
			if len(ours) == 0 {
				continue
			}
			b.floor = 0
			for _, f := range o.floorsOf(w, r) {
				b.floor = f.ratio
			}
			for peer, ratio := range map[string]*float64{peerMemName: &b.memory, peerDiskName: &b.disk} {
				if theirs := all[cell{w.name, peer, i}]; len(theirs) > 0 {
					*ratio = ratioOf(r, spreadOf(ours, value), spreadOf(theirs, value))
				}
			}
		}
		if b.memory > 0 || b.disk > 0 {
			list = append(list, b)
		}
	}
	return list
}

// svgStyle works on light and dark pages: nothing is painted behind, and the colours follow the reader's scheme.
const svgStyle = `<style>
text{font:12px system-ui,sans-serif;fill:#24292f}
.t{font-size:15px;font-weight:600}.s{fill:#57606a}
.g{stroke:#8c959f;stroke-opacity:.35}.one{stroke:#8c959f;stroke-width:1.5}
.m{fill:#0969da}.d{fill:#8250df;fill-opacity:.7}.f{stroke:#cf222e;stroke-width:2}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}.m{fill:#4493f8}.d{fill:#ab7df8}.f{stroke:#f85149}}
</style>
`

// drawing is the picture of all ratios on a logarithmic axis.
func drawing(o options, all results) string {
	list := bars(o, all)
	low, high := 1.0, 10.0
	for _, b := range list {
		for _, v := range []float64{b.memory, b.disk, b.floor} {
			if v > 0 {
				low, high = math.Min(low, v), math.Max(high, v)
			}
		}
	}
	low, high = math.Pow(2, math.Floor(math.Log2(low))), high*1.15
	x := func(v float64) float64 {
		return svgLeft + (svgWidth-svgLeft-svgRight)*math.Log(v/low)/math.Log(high/low)
	}
	height := svgTop + svgPitch*len(list) + 30
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", svgWidth, height, svgWidth, height)
	s.WriteString("<title>Broker CPU per message: the peer's divided by ours</title>\n" + svgStyle)
	s.WriteString(`<text class="t" x="12" y="24">Broker CPU per message: the peer's divided by ours</text>` + "\n")
	fmt.Fprintf(&s, `<rect class="m" x="12" y="38" width="22" height="%d"/><text class="s" x="40" y="47">peer in memory</text>`+"\n", barHeight)
	fmt.Fprintf(&s, `<rect class="d" x="150" y="38" width="22" height="%d"/><text class="s" x="178" y="47">peer on disk</text>`+"\n", barHeight)
	s.WriteString(`<line class="f" x1="280" x2="280" y1="36" y2="49"/><text class="s" x="288" y="47">floor, against the peer in memory</text>` + "\n")
	bottom := svgTop + svgPitch*len(list)
	for _, decade := range []float64{0.01, 0.1, 1, 10, 100, 1000, 10000} {
		for _, step := range []float64{1, 2, 5} {
			v := decade * step
			if v < low*0.999 || v > high {
				continue
			}
			class := "g"
			if v == 1 {
				class = "one"
			}
			fmt.Fprintf(&s, `<line class="%s" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text class="s" x="%.1f" y="%d" text-anchor="middle">%s×</text>`+"\n",
				class, x(v), x(v), svgTop-8, bottom, x(v), bottom+16, number(v))
		}
	}
	for i, b := range list {
		drawBar(&s, b, svgTop+svgPitch*i, x)
	}
	s.WriteString("</svg>\n")
	return s.String()
}

func drawBar(s *strings.Builder, b bar, y int, x func(float64) float64) {
	fmt.Fprintf(s, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", svgLeft-10, y+14, html.EscapeString(b.title))
	for i, part := range []struct {
		class string
		ratio float64
	}{{"m", b.memory}, {"d", b.disk}} {
		if part.ratio <= 0 {
			continue
		}
		top := y + i*(barHeight+2)
		from, to := math.Min(x(1), x(part.ratio)), math.Max(x(1), x(part.ratio))
		fmt.Fprintf(s, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d" rx="1.5"/><text x="%.1f" y="%d">%s</text>`+"\n",
			part.class, from, top, math.Max(1, to-from), barHeight, to+5, top+barHeight, number(part.ratio))
	}
	if b.floor > 0 {
		fmt.Fprintf(s, `<line class="f" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", x(b.floor), x(b.floor), y-3, y+barHeight+2)
	}
}
