// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC4626} from "@openzeppelin/contracts/token/ERC20/extensions/ERC4626.sol";

/// OpenZeppelin's vault as it is: only its abstract parts are filled in.
contract OpenZeppelinVault is ERC4626 {
    uint8 private immutable OFFSET;

    constructor(address asset_, uint8 offset) ERC20("vault", "VAULT") ERC4626(IERC20(asset_)) {
        OFFSET = offset;
    }

    function _decimalsOffset() internal view override returns (uint8) {
        return OFFSET;
    }
}
