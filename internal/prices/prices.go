// Package prices is the price list: what AWS asks for what is deployed, with the month and the page of
// each price. prices.json is the only place where a price is written. The parameters of the templates,
// the tables of infra/README.md and of `benchmarks advise`, and the cost models of the benchmarks read it.
package prices

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// HoursPerMonth is what AWS's own calculators use: 365 × 24 / 12.
const HoursPerMonth = 730

// Price is what one unit of something costs.
type Price struct {
	USD    float64 `json:"usd"`
	Unit   string  `json:"unit"`
	Seen   string  `json:"seen"`   // year and month in which it was read; empty if it was not
	Source string  `json:"source"` // AWS's page
	Quoted string  `json:"quoted"` // where it was read, if it was not at Source
}

//go:embed prices.json
var file []byte

// List is the price file.
var List = func() (l struct {
	Region string           `json:"region"`
	Note   string           `json:"note"`
	Items  map[string]Price `json:"items"`
}) {
	if err := json.Unmarshal(file, &l); err != nil {
		panic(fmt.Sprintf("prices.json: %v", err))
	}
	return l
}()

// Of is the price of one unit, in USD. A name that is not in the file is a
// mistake of the program.
func Of(name string) float64 {
	p, ok := List.Items[name]
	if !ok {
		panic("prices.json has no price for " + name)
	}
	return p.USD
}

// Say is a price in words, such as "$0.16 per GB-month".
func Say(name string) string {
	return "$" + strconv.FormatFloat(Of(name), 'f', -1, 64) + " per " + List.Items[name].Unit
}

// Million is a price in words, for a million units.
func Million(name string) string {
	return "$" + strconv.FormatFloat(math.Round(Of(name)*1e6*1e6)/1e6, 'f', -1, 64) + " per million " + List.Items[name].Unit + "s"
}

// FreeDisk is how much disk a task has for nothing, in GB.
const FreeDisk = 20

// DiskMonth is what a disk of a task costs that runs the whole month.
func DiskMonth(gb float64) float64 {
	return HoursPerMonth * max(0, gb-FreeDisk) * Of("fargate.disk.gb-hour")
}

// TaskMonth is what a Fargate task costs that runs the whole month.
func TaskMonth(architecture string, vcpu, gb float64) float64 {
	kind := "fargate.arm64"
	if architecture == "X86_64" {
		kind = "fargate.x86"
	}
	return HoursPerMonth * (vcpu*Of(kind+".vcpu-hour") + gb*Of(kind+".gb-hour"))
}
