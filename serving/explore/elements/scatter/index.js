// Scatter plots of many points on a 2D canvas. Every frame is drawn into an array of pixels, which needs no WebGL and
// takes a few milliseconds for 70,000 points.

export { PointMap, linked } from "./point_map.js";
