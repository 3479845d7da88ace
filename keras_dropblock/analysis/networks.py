"""The networks of the two papers, and their sizes."""

import typing


class Network(typing.NamedTuple):
    """Size of a network of the papers.

    Attributes:
        image_size: side of an image, in pixels.
        num_classes: number of logits.
        parameters: number of trainable parameters.
        multiply_adds: multiply-adds of a forward pass for one image.
    """

    image_size: int
    num_classes: int
    parameters: int
    multiply_adds: int


# In the order of the papers' tables. The numbers come from `complexity.size`,
# which takes half a minute for all networks. A test checks them.
NETWORKS = {
    "WRN-40-2-B(1,3,1)": Network(32, 10, 1_429_082, 208_061_696),
    "WRN-40-2-B(3,1)": Network(32, 10, 1_211_354, 176_604_416),
    "WRN-40-2-B(1,3)": Network(32, 10, 1_297_370, 189_187_328),
    "WRN-40-2-B(3,1,1)": Network(32, 10, 1_343_066, 195_478_784),
    "WRN-28-2": Network(32, 10, 1_467_610, 214_353_152),
    "WRN-22-2-B(3,1,3)": Network(32, 10, 1_145_498, 167_167_232),
    "WRN-40-2-B(3)": Network(32, 10, 2_243_546, 327_599_360),
    "WRN-40-2-B(3,3,3)": Network(32, 10, 2_243_546, 327_599_360),
    "WRN-40-2-B(3,3,3,3)": Network(32, 10, 2_243_546, 327_599_360),
    "WRN-40-1": Network(32, 10, 563_930, 83_280_512),
    "WRN-40-2": Network(32, 10, 2_243_546, 327_599_360),
    "WRN-40-4": Network(32, 10, 8_949_210, 1_298_582_016),
    "WRN-40-8": Network(32, 10, 35_748_314, 5_172_024_320),
    "WRN-40-10": Network(32, 10, 55_841_754, 8_074_483_968),
    "WRN-28-10": Network(32, 10, 36_479_194, 5_243_328_768),
    "WRN-28-12": Network(32, 10, 52_517_850, 7_543_905_792),
    "WRN-22-8": Network(32, 10, 17_158_106, 2_454_115_328),
    "WRN-22-10": Network(32, 10, 26_797_914, 3_827_751_168),
    "WRN-16-4": Network(32, 10, 2_748_890, 392_612_352),
    "WRN-16-8": Network(32, 10, 10_961_370, 1_548_145_664),
    "WRN-16-10": Network(32, 10, 17_116_634, 2_412_173_568),
    "WRN-52-1": Network(32, 10, 758_362, 111_592_064),
    "CifarResNet-110": Network(32, 10, 1_727_962, 252_887_680),
    "CifarResNet-1202": Network(32, 10, 19_421_274, 2_829_238_912),
    "PreActResNet-110": Network(32, 10, 1_730_522, 253_149_824),
    "PreActResNet-164": Network(32, 10, 1_703_258, 244_500_992),
    "PreActResNet-1001": Network(32, 10, 10_327_706, 1_487_849_984),
    "HighwayNet-19-2": Network(32, 10, 2_032_138, 293_438_720),
    "ResNet-18": Network(224, 1000, 11_689_512, 1_814_073_344),
    "ResNet-18-1.5": Network(224, 1000, 25_875_816, 3_866_327_040),
    "ResNet-18-2": Network(224, 1000, 45_618_216, 6_695_706_624),
    "ResNet-18-3": Network(224, 1000, 101_783_976, 14_724_378_624),
    "ResNet-34": Network(224, 1000, 21_797_672, 3_663_761_408),
    "ResNet-34-1.5": Network(224, 1000, 48_613_608, 8_028_125_184),
    "ResNet-34-2": Network(224, 1000, 86_036_008, 14_094_458_880),
    "ResNet-50": Network(224, 1000, 25_557_032, 4_089_184_256),
    "ResNet-101": Network(224, 1000, 44_549_160, 7_801_405_440),
    "ResNet-152": Network(224, 1000, 60_192_808, 11_513_626_624),
    "WRN-50-2-bottleneck": Network(224, 1000, 68_883_240, 11_398_021_120),
    "WRN-101-2-bottleneck": Network(224, 1000, 126_886_696, 22_753_050_624),
}


def table(recipes=None):
    """Markdown table of the networks.

    Args:
        recipes: dict from a network to the names of the recipes that train
            it. None leaves out the column of recipes.
    """
    rows = [
        ["network", "images", "parameters", "multiply-adds", "recipes"],
        ["---", "---", "---:", "---:", "---"],
    ]
    for name, network in NETWORKS.items():
        side = network.image_size
        rows.append(
            [
                name,
                f"{side} x {side}",
                f"{network.parameters:,}",
                f"{network.multiply_adds / 1e9:.3g} G",
                ", ".join((recipes or {}).get(name, ["none"])),
            ]
        )
    columns = len(rows[0]) - (recipes is None)
    return "".join(f"| {' | '.join(row[:columns])} |\n" for row in rows)
