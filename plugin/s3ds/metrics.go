package s3ds

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
)

// metrics shows the stores of the process under one set of names, which Prometheus wants to be
// unique: what two of them count is added up.
var metrics struct {
	sync.Mutex
	registered bool
	all        []s3ds.Store
}

func register(ds s3ds.Store) error {
	metrics.Lock()
	defer metrics.Unlock()
	if !metrics.registered {
		if err := prometheus.Register(sum{}); err != nil {
			return err
		}
		metrics.registered = true
	}
	metrics.all = append(metrics.all, ds)
	return nil
}

func unregister(ds s3ds.Store) {
	metrics.Lock()
	defer metrics.Unlock()
	metrics.all = slices.DeleteFunc(metrics.all, func(o s3ds.Store) bool { return o == ds })
}

// sum is the collector of all stores. It stays registered.
type sum struct{}

// Describe implements prometheus.Collector by saying nothing: which metrics there are depends on the
// layouts of the stores, and a store may come later.
func (sum) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (sum) Collect(ch chan<- prometheus.Metric) {
	metrics.Lock()
	all := slices.Clone(metrics.all)
	metrics.Unlock()
	if len(all) == 1 {
		all[0].Collect(ch)
		return
	}
	total := map[string]*summed{}
	for _, ds := range all {
		one := make(chan prometheus.Metric)
		go func() {
			defer close(one)
			ds.Collect(one)
		}()
		for m := range one {
			var v dto.Metric
			if err := m.Write(&v); err != nil {
				ch <- prometheus.NewInvalidMetric(m.Desc(), err)
				continue
			}
			key := m.Desc().String()
			for _, l := range v.Label {
				key += "\x00" + l.GetName() + "\x00" + l.GetValue()
			}
			if t, ok := total[key]; ok {
				t.add(&v)
			} else {
				total[key] = &summed{m.Desc(), &v}
			}
		}
	}
	for _, t := range total {
		ch <- t
	}
}

// summed is a metric of several stores.
type summed struct {
	desc  *prometheus.Desc
	value *dto.Metric
}

func (s *summed) Desc() *prometheus.Desc { return s.desc }

func (s *summed) Write(out *dto.Metric) error {
	proto.Merge(out, s.value)
	return nil
}

// add knows the kinds of metrics that stores have.
func (s *summed) add(v *dto.Metric) {
	switch {
	case v.Counter != nil && s.value.Counter != nil:
		s.value.Counter.Value = proto.Float64(s.value.Counter.GetValue() + v.Counter.GetValue())
	case v.Gauge != nil && s.value.Gauge != nil:
		s.value.Gauge.Value = proto.Float64(s.value.Gauge.GetValue() + v.Gauge.GetValue())
	}
}
