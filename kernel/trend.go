package kernel

// trend is the slope of log prices, by the method of the parameters.
func (e *Estimator) trend(y []float64) float64 {
	if e.p.Trend.Method == TrendTheilSen {
		return e.slopes.slope(y)
	}
	return leastSquares(y)
}

// leastSquares is the slope of y against 0..n-1. Heights are taken from the first point, so that the digits of the
// price level do not cost accuracy.
func leastSquares(y []float64) float64 {
	n := float64(len(y))
	mid := float64(0.5 * (n - 1))
	sum := 0.0
	for i, v := range y {
		sum += float64((float64(i) - mid) * (v - y[0]))
	}
	return sum / (n * (float64(n*n) - 1) / 12)
}
